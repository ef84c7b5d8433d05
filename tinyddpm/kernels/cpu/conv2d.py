"""Which way a convolution is computed: twin of ``ops.conv2d`` and ``ops.upsample_conv2d``.

A pixel takes 9 C_in C_out multiplications by the definition, 18/4 or 27/7 C_in C_out by Winograd
along one axis, 36/16 along both. The transforms take time in proportion to C_in + C_out, more for
both axes. So few channels are convolved along one axis, and many along both. But if few pixels
share the 36 products, these do little but read weights, and the definition is faster. The bounds
were measured on the shapes of the presets; near them two ways take the same time.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from typing import NamedTuple, final

from tinyddpm.arrays import Array
from tinyddpm.kernels.cpu.im2col import (
    im2col,
    im2col_backward,
    im2col_same_backward,
    reversed_taps,
)
from tinyddpm.kernels.cpu.tiling import Tiling, doubled, four, four_or_seven
from tinyddpm.kernels.cpu.winograd import (
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
    """A convolution's weight. Other forms of it are made when first asked for, and kept."""

    def __init__(self, weight: Array) -> None:
        self.weight = weight  # (kh, kw, C_in, C_out)
        self.forms: dict[tuple[str, Tiling | None], Array] = {}
        self._lock = Lock()

    def for_both_axes(self, tiling: Tiling) -> Array:
        """For Winograd along both axes: (P·P, C_in, C_out)."""
        return self._form("both", tiling, lambda: transform_weight(self.weight, tiling))

    def for_one_axis(self, tiling: Tiling) -> Array:
        """For Winograd along one axis: (P, 3·C_in, C_out)."""
        return self._form("one", tiling, lambda: transform_weight_1d(self.weight, tiling))

    def reversed_for_one_axis(self, tiling: Tiling) -> Array:
        """For the transpose of that: (P, 3·C_out, C_in)."""
        weight = self.reversed()  # here, and not in the lambda, because it takes the lock as well
        return self._form("transpose", tiling, lambda: transform_weight_1d(weight, tiling))

    def reversed(self) -> Array:
        """For the transpose: (kh, kw, C_out, C_in)."""
        return self._form("reversed", None, lambda: reversed_taps(self.weight))

    def _form(self, name: str, tiling: Tiling | None, make: Callable[[], Array]) -> Array:
        with self._lock:  # of the threads that ask for a form, one makes it
            if (name, tiling) not in self.forms:
                self.forms[name, tiling] = make()
            return self.forms[name, tiling]


class WinogradSaved(NamedTuple):
    """The transform of the image; that of the weight is kept with it."""

    v: Array  # (P·P, tiles, C_in)
    weight: PreparedWeight
    shape: tuple[int, ...]  # of x
    tiling: Tiling


class Winograd1dSaved(NamedTuple):
    """The input itself; the backward has another transform of it."""

    x: Array  # (N, H, W, C_in)
    weight: PreparedWeight
    tiling: Tiling


class Im2colSaved(NamedTuple):
    """The input itself; it is unfolded again."""

    x: Array  # (N, H, W, C_in)
    weight: PreparedWeight
    stride: int
    pad: tuple[int, int]


WaySaved = WinogradSaved | Winograd1dSaved | Im2colSaved


class Conv2dSaved(NamedTuple):
    """What the backward of the way taken needs, and whether each image had a bias of its own."""

    way: WaySaved
    biases: bool


_FEW_CHANNELS = 40  # harmonic mean up to which one axis is faster
# Both axes are faster from this many channels of a doubled image on, and this many pixels of y.
_DOUBLED_CHANNELS, _PIXELS = 10, 161


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
    if _mean_channels(weight) >= _DOUBLED_CHANNELS and _many_pixels(x, tiling):
        y, way = _winograd(x, weight, bias, tiling)
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
            tiling = four_or_seven(x.shape[1], x.dtype)
            y = winograd_1d(x, weight.for_one_axis(tiling), bias, tiling)
            return y, Winograd1dSaved(x, weight, tiling)
        tiling = four(x.dtype)
        if _many_pixels(x, tiling):
            return _winograd(x, weight, bias, tiling)
    return im2col(x, weight.weight, bias, stride, pad), Im2colSaved(x, weight, stride, pad)


def _gradients(dy: Array, saved: WaySaved) -> tuple[Array, Array, Array]:
    """Return ``(dx, dweight, dbias)``, dbias of each image."""
    if isinstance(saved, WinogradSaved):
        u = saved.weight.for_both_axes(saved.tiling)
        return winograd_backward(dy, saved.v, u, saved.shape, saved.tiling)
    if isinstance(saved, Winograd1dSaved):
        u_reversed = saved.weight.reversed_for_one_axis(saved.tiling)
        return winograd_1d_backward(dy, saved.x, u_reversed, saved.tiling)
    x, weight, stride, pad = saved
    _, _, c_in, c_out = weight.weight.shape
    same_size = stride == 1 and dy.shape[1:3] == x.shape[1:3]
    if same_size and c_out <= 2 * c_in:  # unfolding dy is no more work than x and dx together
        return im2col_same_backward(dy, x, weight.reversed(), pad)
    return im2col_backward(dy, x, weight.weight, stride, pad)


def _winograd(
    x: Array, weight: PreparedWeight, bias: Array, tiling: Tiling
) -> tuple[Array, WinogradSaved]:
    v, u = transform_image(x, tiling), weight.for_both_axes(tiling)
    return winograd(v, u, bias, x.shape, tiling), WinogradSaved(v, weight, x.shape, tiling)


def _many_pixels(x: Array, tiling: Tiling) -> bool:
    """Whether y has enough pixels for the products of both axes to do more than read weights."""
    n, height, width, _ = x.shape
    pixels: int = n * tiling.side(height) * tiling.side(width)
    return pixels >= _PIXELS


def _mean_channels(weight: PreparedWeight) -> float:
    """The harmonic mean of C_in and C_out: twice the products per value that is transformed."""
    _, _, c_in, c_out = weight.weight.shape
    mean: float = 2 * c_in * c_out / (c_in + c_out)
    return mean
