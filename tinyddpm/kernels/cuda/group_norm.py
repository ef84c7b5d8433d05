"""Group normalisation, alone or followed by SiLU, on a GPU: twins of ``ops.group_norm`` and
``ops.group_norm_silu``. The equations and their order are in ``group_norm.cu``.

A convolution or a dense layer follows. Where it can, a norm writes what that multiplies (see
``operands.written_as``), which saves the pass of packing.
"""

from __future__ import annotations

from typing import NamedTuple, final

import numpy as np
import numpy.typing as npt

from tinyddpm.arrays import Array
from tinyddpm.kernels.cuda.joined import Joined, Parts
from tinyddpm.kernels.cuda.operands import C_NAMES, written_as
from tinyddpm.kernels.cuda.partial_sums import Gradient, SumUp, summed
from tinyddpm.kernels.cuda.runtime import Argument, Precision, Runtime, blocks, contiguous
from tinyddpm.kernels.cuda.source import Defines

_THREADS = 256
# Values in a slab: enough to make its sums worth a block, few enough that one image fills many. But
# one of twice as many is a slab by itself, which saves a launch.
_SLAB = 8192


def group_norm_defines(vector: int, *, silu: bool, result: npt.DTypeLike) -> Defines:
    """The constants of ``group_norm.cu``."""
    return {"VECTOR": vector, "SILU": int(silu), "RESULT": C_NAMES[np.dtype(result).name]}


class GroupNormSaved(NamedTuple):
    """The input itself and 2 N·G numbers."""

    x: Parts  # (N, H, W, C)
    weight: Array  # (C,) or (N, C)
    bias: Array  # (C,) or (N, C)
    moments: Array  # (N, G, 2)


class _Cut(NamedTuple):
    """How each image is cut into slabs; it depends on the shape of one image alone."""

    images: int
    pixels: int
    channels: int
    split: int  # where the channels go on in another map
    groups: int
    slab_pixels: int
    pivot_pixel: int  # the middle of the image

    @property
    def slabs(self) -> int:
        return blocks(self.pixels, self.slab_pixels)

    @property
    def vector(self) -> int:
        return 1 if self.channels % 4 or self.split % 4 else 4

    @property
    def shared_bytes(self) -> int:
        """Room for two numbers per group, and two sums per channel and row of threads."""
        rows = max(1, _THREADS // (self.channels // self.vector))
        return 16 * blocks(self.groups, 2) + 8 * rows * self.channels


@final
class GroupNorm:
    """The kernels of one runtime.

    Args:
        runtime: the device.
        silu: whether SiLU follows the norm.
        precision: of a product that takes the result as it is written.
        sum_up: for the gradients of parameters.
    """

    def __init__(
        self,
        runtime: Runtime,
        *,
        silu: bool,
        precision: Precision = "fp32",
        sum_up: SumUp = summed,
    ) -> None:
        self._runtime, self._silu = runtime, silu
        self._precision, self._sum_up = precision, sum_up

    def forward(
        self, x: Array | Joined, weight: Array, bias: Array, *, groups: int, norm_eps: float = 1e-5
    ) -> tuple[Array, GroupNormSaved]:
        """Normalise ``x`` (N, H, W, C) within each of ``groups`` groups of neighbouring channels;
        ``weight`` and ``bias`` are (C,), or (N, C) for each image.

        Raises:
            ValueError: ``groups`` does not divide C.
        """
        if x.shape[-1] % groups:
            raise ValueError(
                f"groups must divide the channels: got C={x.shape[-1]}, groups={groups}"
            )
        read, empty = Parts.of(x), self._runtime.empty
        n, cut = x.shape[0], _cut(read, groups)
        y = empty(x.shape, written_as(self._precision, cut.channels))
        moments = empty((n, groups, 2))
        args, results = (*read, weight, bias), (y, moments, _to_next(weight))
        if cut.slabs == 1:
            self._launch("group_norm_forward", *args, *results, cut=cut, last=(norm_eps,))
        else:
            partial = empty((n, cut.slabs, groups, 2))
            self._launch("group_norm_moments", *read, partial, cut=cut)
            self._launch("group_norm_apply", *args, partial, *results, cut=cut, last=(norm_eps,))
        return y, GroupNormSaved(read, weight, bias, moments)

    def backward(
        self, dy: Array, saved: GroupNormSaved, dskip: Array | None = None
    ) -> tuple[Array | Joined, Gradient, Gradient]:
        """Return ``(dx, dweight, dbias)`` for ``dy`` (N, H, W, C); ``dskip`` is added to dx.

        dx is in as many parts as x.
        """
        x, weight, bias, moments = saved
        dy, empty = contiguous(dy), self._runtime.empty
        (n, groups, _), cut = moments.shape, _cut(x, moments.shape[1])
        by_channel = empty((cut.slabs, n, 2, cut.channels))
        first, rest = empty(x.first.shape), None if x.rest is None else empty(x.rest.shape)
        if dskip is not None:
            dskip = contiguous(dskip)
        args, to_next = (dy, *x, weight, bias, moments), _to_next(weight)
        results = (dskip, first, rest, to_next)
        if cut.slabs == 1:
            self._launch("group_norm_backward", *args, by_channel, *results, cut=cut)
        else:
            by_group = empty((n, cut.slabs, groups, 2))
            self._launch("group_norm_sums", *args, by_channel, by_group, to_next, cut=cut)
            self._launch("group_norm_dx", *args, by_group, *results, cut=cut)
        dx = first if rest is None else Joined(first, rest)
        if weight.ndim == 2:
            by_image = summed(self._runtime, by_channel)  # (N, 2, C)
            return dx, by_image[:, 1], by_image[:, 0]
        sums = self._sum_up(self._runtime, by_channel.reshape(-1, 2, cut.channels))
        return dx, sums[1], sums[0]

    def _launch(
        self, name: str, *arrays: Argument, cut: _Cut, last: tuple[float, ...] = ()
    ) -> None:
        """A kernel with a block for each slab of each image."""
        result = written_as(self._precision, cut.channels)
        defines = group_norm_defines(cut.vector, silu=self._silu, result=result)
        function = self._runtime.function("group_norm.cu", name, defines)
        args: list[Argument] = [*arrays, *cut[1:], *last]
        self._runtime.launch(
            function, (cut.slabs, cut.images), (_THREADS,), args, shared_bytes=cut.shared_bytes
        )


def _cut(x: Parts, groups: int) -> _Cut:
    images, height, width, channels = x.shape
    pixels = height * width
    slabs = 1 if pixels * channels <= 2 * _SLAB else blocks(pixels * channels, _SLAB)
    slab_pixels = blocks(pixels, slabs)
    middle = height // 2 * width + width // 2
    return _Cut(images, pixels, channels, x.split, groups, slab_pixels, middle)


def _to_next(weight: Array) -> int:
    """How far behind the weight of an image that of the next one lies."""
    return 0 if weight.ndim == 1 else weight.shape[1]
