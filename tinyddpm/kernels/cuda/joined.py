"""Joining a skip connection to the decoder's features, by passing on both: twin of ``ops.concat``.

GroupNorm reads the two maps where they lie, and its backward gives a pair in turn; the packing of a
convolution's input makes one of them.
"""

from __future__ import annotations

from typing import NamedTuple

from tinyddpm.arrays import Array
from tinyddpm.kernels.cuda.between import ToNorm
from tinyddpm.kernels.cuda.runtime import contiguous


class Joined(NamedTuple):
    """Two maps, (N, H, W, C) and (N, H, W, D), that stand for one."""

    first: Array
    rest: Array

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, H, W, C + D)."""
        *pixels, channels = self.first.shape
        return (*pixels, channels + self.rest.shape[-1])


class Parts(NamedTuple):
    """What a kernel is passed for a map (N, H, W, C): one array or two, without gaps."""

    first: Array
    rest: Array | None

    @classmethod
    def of(cls, x: Array | Joined | ToNorm) -> Parts:
        """Return the parts of ``x``."""
        if isinstance(x, Joined):
            return cls(contiguous(x.first), contiguous(x.rest))
        return cls(contiguous(x.values if isinstance(x, ToNorm) else x), None)

    @property
    def split(self) -> int:
        """The channels of ``first``, behind which those of ``rest`` follow."""
        channels: int = self.first.shape[-1]
        return channels

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, H, W, C)."""
        more = 0 if self.rest is None else self.rest.shape[-1]
        return (*self.first.shape[:-1], self.split + more)


def join(a: Array, b: Array) -> tuple[Joined, int]:
    """Join ``a`` (N, H, W, C) and ``b`` (N, H, W, D)."""
    return Joined(a, b), a.shape[-1]


def join_backward(dy: Array | Joined, saved: int) -> tuple[Array, Array]:
    """Return ``(da, db)`` for ``dy`` (N, H, W, C + D), in two parts or as views of one."""
    return dy if isinstance(dy, Joined) else (dy[..., :saved], dy[..., saved:])
