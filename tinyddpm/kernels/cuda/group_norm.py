"""Group normalisation, alone or followed by SiLU, on a GPU: twins of ``ops.group_norm`` and
``ops.group_norm_silu``. The equations and their order are in ``group_norm.cu`` and
``group_norm_backward.cu``.

A convolution or a dense layer follows. Where it can, a norm writes what that multiplies (see
``operands.written_as``), which saves the pass of packing. So does its backward for the convolution
before, where that left its result to the norm alone (see ``between``).
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple, final

import numpy as np
import numpy.typing as npt

from tinyddpm.arrays import Array
from tinyddpm.kernels.cuda.between import FromNorm, ToNorm
from tinyddpm.kernels.cuda.joined import Joined, Parts
from tinyddpm.kernels.cuda.operands import C_NAMES, written_as
from tinyddpm.kernels.cuda.partial_sums import AtOnce, Gradient, Sums, summed
from tinyddpm.kernels.cuda.runtime import Argument, Precision, Runtime, blocks, contiguous
from tinyddpm.kernels.cuda.source import Defines

_THREADS = 256
# Values in a slab: enough to make its sums worth a block, few enough that one image fills many. But
# one of twice as many is a slab by itself, which saves a launch.
_SLAB = 8192


def group_norm_defines(vector: int, *, silu: bool, **types: npt.DTypeLike) -> Defines:
    """The constants of ``group_norm.cu``, with the types of x and y."""
    names = {array.upper(): C_NAMES[np.dtype(kind).name] for array, kind in types.items()}
    return {"VECTOR": vector, "SILU": int(silu), **names}


def backward_defines(vector: int, *, silu: bool, sums: bool, **types: npt.DTypeLike) -> Defines:
    """The constants of ``group_norm_backward.cu``, with the types of x, dy and dx."""
    return {**group_norm_defines(vector, silu=silu, **types), "SUMS": int(sums)}


class GroupNormSaved(NamedTuple):
    """The input itself and 2 N·G numbers."""

    x: Parts  # (N, H, W, C)
    weight: Array  # (C,) or (N, C)
    bias: Array  # (C,) or (N, C)
    moments: Array  # (N, G, 2)
    from_conv: bool  # whether a convolution left x to this norm, and so takes dx


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
        sums: forms the gradients of parameters.
    """

    def __init__(
        self,
        runtime: Runtime,
        *,
        silu: bool,
        precision: Precision = "fp32",
        sums: Sums | None = None,
    ) -> None:
        self._runtime, self._silu = runtime, silu
        self._precision, self._sums = precision, sums or AtOnce(runtime)

    def forward(
        self,
        x: Array | Joined | ToNorm,
        weight: Array,
        bias: Array,
        *,
        groups: int,
        norm_eps: float = 1e-5,
    ) -> tuple[Array, GroupNormSaved]:
        """Normalise ``x`` (N, H, W, C) within each of ``groups`` groups of neighbouring channels;
        ``weight`` and ``bias`` are (C,), or (N, C) for each image.

        Raises:
            ValueError: ``groups`` does not divide C.
        """
        read, empty = Parts.of(x), self._runtime.empty
        n, *_, channels = read.shape
        if channels % groups:
            raise ValueError(f"groups must divide the channels: got C={channels}, groups={groups}")
        cut = _cut(read, groups)
        y = empty(read.shape, written_as(self._precision, channels))
        moments = empty((n, groups, 2))
        args, results = (*read, weight, bias), (y, moments, _to_next(weight))
        defines = group_norm_defines(cut.vector, silu=self._silu, x=read.first.dtype, y=y.dtype)
        launch = partial(self._launch, "group_norm.cu", defines, cut)
        if cut.slabs == 1:
            launch("group_norm_forward", *args, *results, last=(norm_eps,))
        else:
            sums = empty((n, cut.slabs, groups, 2))
            launch("group_norm_moments", *read, sums)
            launch("group_norm_apply", *args, sums, *results, last=(norm_eps,))
        return y, GroupNormSaved(read, weight, bias, moments, isinstance(x, ToNorm))

    def backward(
        self, dy: Array, saved: GroupNormSaved, dskip: Array | None = None
    ) -> tuple[Array | Joined | FromNorm, Gradient, Gradient]:
        """Return ``(dx, dweight, dbias)`` for ``dy`` (N, H, W, C); ``dskip`` is added to dx.

        dx is in the form in which x was.
        """
        x, weight, bias, moments, from_conv = saved
        dy, empty = contiguous(dy), self._runtime.empty
        (n, groups, _), cut = moments.shape, _cut(x, moments.shape[1])
        written = written_as(self._precision, cut.channels) if from_conv else np.float32
        first = empty(x.first.shape, written)
        rest = None if x.rest is None else empty(x.rest.shape)
        dx_sums = empty((cut.slabs, n, cut.channels)) if from_conv else None
        by_channel = empty((cut.slabs, n, 2, cut.channels))
        if dskip is not None:
            dskip = contiguous(dskip)
        args, to_next = (dy, *x, weight, bias, moments), _to_next(weight)
        results = (dskip, first, rest, dx_sums, to_next)
        types = {"x": x.first.dtype, "dy": dy.dtype, "dx": first.dtype}
        defines = backward_defines(cut.vector, silu=self._silu, sums=from_conv, **types)
        launch = partial(self._launch, "group_norm_backward.cu", defines, cut)
        if cut.slabs == 1:
            launch("group_norm_backward", *args, by_channel, *results)
        else:
            by_group = empty((n, cut.slabs, groups, 2))
            launch("group_norm_sums", *args, by_channel, by_group, to_next)
            launch("group_norm_dx", *args, by_group, *results)
        dx = _in_the_form_of_x(first, rest, dx_sums)
        if weight.ndim == 2:
            by_image = summed(self._runtime, by_channel)  # (N, 2, C)
            return dx, by_image[:, 1], by_image[:, 0]
        by_both = self._sums.sum_up(by_channel.reshape(-1, 2, cut.channels))
        return dx, by_both[1], by_both[0]

    def _launch(
        self,
        file: str,
        defines: Defines,
        cut: _Cut,
        name: str,
        *arrays: Argument,
        last: tuple[float, ...] = (),
    ) -> None:
        """A kernel with a block for each slab of each image."""
        function = self._runtime.function(file, name, defines)
        args: list[Argument] = [*arrays, *cut[1:], *last]
        self._runtime.launch(
            function, (cut.slabs, cut.images), (_THREADS,), args, shared_bytes=cut.shared_bytes
        )


def _in_the_form_of_x(
    first: Array, rest: Array | None, sums: Array | None
) -> Array | Joined | FromNorm:
    if rest is not None:
        return Joined(first, rest)
    return first if sums is None else FromNorm(first, sums)


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
