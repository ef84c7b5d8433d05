"""Which way a convolution is computed: twin of ``ops.conv2d`` and ``ops.upsample_conv2d``.

A pixel takes 9 C_in C_out multiplications by the definition, 18/4 C_in C_out by Winograd along one
axis, 36/16 along both. The transforms take time in proportion to C_in + C_out, more for both axes.
So few channels are convolved along one axis and many along both, unless so few tiles share the 36
products that these do little but read weights: then by the definition. The bounds were measured on
the shapes of the presets; near them two ways take the same time.
"""

from __future__ import annotations

from functools import cached_property
from typing import NamedTuple, final

from tinyddpm.arrays import Array
from tinyddpm.kernels.cpu.im2col import (
    im2col,
    im2col_backward,
    im2col_same_backward,
    reversed_taps,
)
from tinyddpm.kernels.cpu.winograd import (
    Tiling,
    doubled,
    plain,
    transform_image,
    transform_weight,
    winograd,
    winograd_backward,
)
from tinyddpm.kernels.cpu.winograd_1d import (
    transform_weight_1d,
    winograd_1d,
    winograd_1d_backward,
)
from tinyddpm.ops.upsample import upsample, upsample_backward


@final
class PreparedWeight:
    """A convolution's weight, and the forms of it that are made when first asked for and kept."""

    def __init__(self, weight: Array) -> None:
        self.weight = weight  # (kh, kw, C_in, C_out)

    @cached_property
    def transformed(self) -> Array:
        """For Winograd along both axes: (36, C_in, C_out)."""
        return transform_weight(self.weight, plain(self.weight.dtype))

    @cached_property
    def transformed_for_doubled(self) -> Array:
        """For the same on a doubled image: (25, C_in, C_out)."""
        return transform_weight(self.weight, doubled(self.weight.dtype))

    @cached_property
    def transformed_1d(self) -> Array:
        """For Winograd along one axis: (6, 3·C_in, C_out)."""
        return transform_weight_1d(self.weight)

    @cached_property
    def reversed_transformed_1d(self) -> Array:
        """For the transpose of that: (6, 3·C_out, C_in)."""
        return transform_weight_1d(self.reversed)

    @cached_property
    def reversed(self) -> Array:
        """For the transpose: (kh, kw, C_out, C_in)."""
        return reversed_taps(self.weight)


class WinogradSaved(NamedTuple):
    """The transforms of image and weight, which the gradient of the other needs."""

    v: Array  # (P·P, tiles, C_in)
    u: Array  # (P·P, C_in, C_out)
    shape: tuple[int, ...]  # of x
    tiling: Tiling


class Winograd1dSaved(NamedTuple):
    """The input itself; the backward has another transform of it."""

    x: Array  # (N, H, W, C_in)
    weight: PreparedWeight


class Im2colSaved(NamedTuple):
    """The input itself; it is unfolded again."""

    x: Array  # (N, H, W, C_in)
    weight: PreparedWeight
    stride: int
    pad: tuple[int, int]


WaySaved = WinogradSaved | Winograd1dSaved | Im2colSaved


class Conv2dSaved(NamedTuple):
    """What the way that was taken needs, and whether each image had a bias of its own."""

    way: WaySaved
    biases: bool


_FEW_CHANNELS = 40  # harmonic mean up to which one axis is faster


def conv2d(
    x: Array,
    weight: PreparedWeight,
    bias: Array,
    *,
    stride: int = 1,
    pad: tuple[int, int] = (1, 1),
    residual: Array | None = None,
) -> tuple[Array, Conv2dSaved]:
    """Convolve ``x`` (N, H, W, C_in) with ``weight`` (kh, kw, C_in, C_out); add ``bias``, (C_out,)
    or of each image (N, C_out), and ``residual``.
    """
    y, way = _convolved(x, weight, bias, stride, pad)
    if residual is not None:
        y += residual
    return y, Conv2dSaved(way, bias.ndim == 2)


def conv2d_backward(dy: Array, saved: Conv2dSaved) -> tuple[Array, Array, Array]:
    """Return ``(dx, dweight, dbias)`` for ``dy`` (N, H_out, W_out, C_out)."""
    dx, dweight, dbiases = _gradients(dy, saved.way)
    return dx, dweight, dbiases if saved.biases else dbiases.sum(axis=0)


def upsample_conv2d(x: Array, weight: PreparedWeight, bias: Array) -> tuple[Array, Conv2dSaved]:
    """Double ``x`` (N, H, W, C_in), convolve with ``weight`` (3, 3, C_in, C_out)."""
    tiling = doubled(x.dtype)
    if _winograd_pays(x, weight, tiling):
        y, way = _winograd(x, weight.transformed_for_doubled, bias, tiling)
        return y, Conv2dSaved(way, bias.ndim == 2)
    doubled_x = upsample(x)
    y = im2col(doubled_x, weight.weight, bias, 1, (1, 1))
    return y, Conv2dSaved(Im2colSaved(doubled_x, weight, 1, (1, 1)), bias.ndim == 2)


def upsample_conv2d_backward(dy: Array, saved: Conv2dSaved) -> tuple[Array, Array, Array]:
    """Return ``(dx, dweight, dbias)`` for ``dy`` (N, 2H, 2W, C_out)."""
    dx, dweight, dbias = conv2d_backward(dy, saved)
    if isinstance(saved.way, Im2colSaved):  # of the doubled image
        dx = upsample_backward(dx)
    return dx, dweight, dbias


def _convolved(
    x: Array, weight: PreparedWeight, bias: Array, stride: int, pad: tuple[int, int]
) -> tuple[Array, WaySaved]:
    if (*weight.weight.shape[:2], stride, pad) == (3, 3, 1, (1, 1)):
        if _mean_channels(weight) <= _FEW_CHANNELS:
            return winograd_1d(x, weight.transformed_1d, bias), Winograd1dSaved(x, weight)
        tiling = plain(x.dtype)
        if _winograd_pays(x, weight, tiling):
            return _winograd(x, weight.transformed, bias, tiling)
    return im2col(x, weight.weight, bias, stride, pad), Im2colSaved(x, weight, stride, pad)


def _gradients(dy: Array, saved: WaySaved) -> tuple[Array, Array, Array]:
    """Return ``(dx, dweight, dbias)``, dbias of each image."""
    if isinstance(saved, WinogradSaved):
        return winograd_backward(dy, *saved)
    if isinstance(saved, Winograd1dSaved):
        return winograd_1d_backward(dy, saved.x, saved.weight.reversed_transformed_1d)
    x, weight, stride, pad = saved
    _, _, c_in, c_out = weight.weight.shape
    same_size = dy.shape[1:3] == x.shape[1:3]
    if same_size and c_out <= 2 * c_in:  # unfolding dy is no more work than x and dx together
        return im2col_same_backward(dy, x, weight.reversed, pad)
    return im2col_backward(dy, x, weight.weight, stride, pad)


def _winograd(x: Array, u: Array, bias: Array, tiling: Tiling) -> tuple[Array, WinogradSaved]:
    saved = WinogradSaved(transform_image(x, tiling), u, x.shape, tiling)
    return winograd(saved.v, u, bias, x.shape, tiling), saved


def _winograd_pays(x: Array, weight: PreparedWeight, tiling: Tiling) -> bool:
    n, height, width, _ = x.shape
    tiles = n * tiling.tiles(height) * tiling.tiles(width)
    channels = _mean_channels(weight)
    return channels >= 10 and tiles * channels > 1400  # fewer than 10 only where x is doubled


def _mean_channels(weight: PreparedWeight) -> float:
    """The harmonic mean of C_in and C_out: twice the products per value that is transformed."""
    _, _, c_in, c_out = weight.weight.shape
    mean: float = 2 * c_in * c_out / (c_in + c_out)
    return mean
