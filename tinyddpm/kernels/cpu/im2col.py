"""Convolution as one matrix product over unfolded pixels (Chellapilla et al. 2006): twin of
``ops.conv2d`` for any kernel, stride and padding.

    columns[n, i, j] = x_padded[n, s i + a, s j + b] for all taps (a, b):  kh kw C_in values
    y        = columns weight + bias
    dweight  = columnsᵀ dy         dcolumns = dy weightᵀ         dx_padded = dcolumns folded back

A 1×1 kernel needs no unfolding: its columns are the image itself.

A convolution of stride 1 that keeps the size has a second form of its backward. Its transpose is a
convolution with the taps in reverse, so dy can be unfolded instead of x. Once unfolded it serves
for both gradients, and nothing has to be folded back:

    dx       = dy_columns weight_reversedᵀ            dweight_reversed = xᵀ dy_columns
"""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import as_strided

from tinyddpm.arrays import Array
from tinyddpm.kernels.cpu.sums import pixel_sums


def im2col(x: Array, weight: Array, bias: Array, stride: int, pad: tuple[int, int]) -> Array:
    """Convolve ``x`` (N, H, W, C_in) with ``weight`` (kh, kw, C_in, C_out)."""
    kh, kw, _, c_out = weight.shape
    x_padded = _padded(x, pad)
    height = (x_padded.shape[1] - kh) // stride + 1
    width = (x_padded.shape[2] - kw) // stride + 1
    y = _columns(x_padded, kh, kw, height, width, stride) @ weight.reshape(-1, c_out)
    y = y.reshape(len(x), height, width, c_out)
    y += bias.reshape(-1, 1, 1, c_out)
    return y


def im2col_backward(
    dy: Array, x: Array, weight: Array, stride: int, pad: tuple[int, int]
) -> tuple[Array, Array, Array]:
    """Return ``(dx, dweight, dbias)`` for ``dy`` (N, H_out, W_out, C_out); dbias by image."""
    kh, kw, c_in, c_out = weight.shape
    n, height, width, _ = dy.shape
    x_padded = _padded(x, pad)
    rows = dy.reshape(-1, c_out)
    dweight = _columns(x_padded, kh, kw, height, width, stride).T @ rows
    dcolumns = (rows @ weight.reshape(-1, c_out).T).reshape(n, height, width, kh, kw, c_in)
    dx_padded = _folded(dcolumns, x_padded.shape, stride)
    bottom, right = pad[0] + x.shape[1], pad[0] + x.shape[2]
    dx = np.ascontiguousarray(dx_padded[:, pad[0] : bottom, pad[0] : right])
    return dx, dweight.reshape(weight.shape), pixel_sums(dy)


def im2col_same_backward(
    dy: Array, x: Array, weight_reversed: Array, pad: tuple[int, int]
) -> tuple[Array, Array, Array]:
    """``im2col_backward`` in its second form, for an output of the input's size."""
    kh, kw, c_out, c_in = weight_reversed.shape
    before, after = pad
    _, height, width, _ = x.shape
    dy_columns = _columns(_padded(dy, (after, before)), kh, kw, height, width, 1)
    dx = (dy_columns @ weight_reversed.reshape(-1, c_in)).reshape(x.shape)
    dreversed = (x.reshape(-1, c_in).T @ dy_columns).reshape(c_in, kh, kw, c_out)
    dweight = np.ascontiguousarray(dreversed[:, ::-1, ::-1].transpose(1, 2, 0, 3))
    return dx, dweight, pixel_sums(dy)


def reversed_taps(weight: Array) -> Array:
    """The kernel of the transpose: (kh, kw, C_out, C_in), taps from the last to the first."""
    return np.ascontiguousarray(weight[::-1, ::-1].swapaxes(2, 3))


def _padded(x: Array, pad: tuple[int, int]) -> Array:
    if pad == (0, 0):
        return x
    n, height, width, channels = x.shape
    before, after = pad
    x_padded = np.zeros((n, before + height + after, before + width + after, channels), x.dtype)
    x_padded[:, before : before + height, before : before + width] = x
    return x_padded


def _columns(x_padded: Array, kh: int, kw: int, height: int, width: int, stride: int) -> Array:
    """Unfold to (N·height·width, kh·kw·C); the kw pixels of a row of taps are neighbours."""
    n, channels = len(x_padded), x_padded.shape[3]
    image, row, column, channel = x_padded.strides
    windows = as_strided(
        x_padded,
        (n, height, width, kh, kw * channels),
        (image, stride * row, stride * column, row, channel),
    )
    return windows.reshape(n * height * width, kh * kw * channels)


def _folded(dcolumns: Array, padded_shape: tuple[int, ...], stride: int) -> Array:
    """Add each pixel's taps up: the transpose of ``_columns``."""
    _, height, width, kh, kw, _ = dcolumns.shape
    if (kh, kw, stride) == (1, 1, 1):
        return dcolumns.reshape(padded_shape)
    dx_padded = np.zeros(padded_shape, dcolumns.dtype)
    for a, b in np.ndindex(kh, kw):
        rows = slice(a, a + stride * height, stride)
        columns = slice(b, b + stride * width, stride)
        dx_padded[:, rows, columns] += dcolumns[:, :, :, a, b]
    return dx_padded
