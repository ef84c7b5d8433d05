"""Joining a skip connection to the decoder's features, with nothing moved: twin of ``ops.concat``.

The two maps go on as a pair, which GroupNorm and the packing of a convolution's input read as one;
GroupNorm's backward gives a pair in turn.
"""

from __future__ import annotations

from typing import NamedTuple

from tinyddpm.arrays import Array
from tinyddpm.kernels.cuda.runtime import contiguous


class Joined(NamedTuple):
    """A map (N, H, W, C) in one part, or in two with some of the channels each."""

    first: Array
    rest: Array | None

    @classmethod
    def of(cls, x: Array | Joined) -> Joined:
        """Return ``x`` in parts without gaps."""
        if not isinstance(x, Joined):
            return cls(contiguous(x), None)
        return cls(contiguous(x.first), None if x.rest is None else contiguous(x.rest))

    @property
    def split(self) -> int:
        """Where the channels go on in ``rest``: after so many."""
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


def join_backward(dy: Array | Joined, saved: int) -> tuple[Array, Array | None]:
    """Return ``(da, db)`` for ``dy`` (N, H, W, C + D), in two parts or as views of one."""
    return dy if isinstance(dy, Joined) else (dy[..., :saved], dy[..., saved:])
