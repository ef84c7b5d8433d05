"""Group normalisation, alone and followed by SiLU, in few passes over memory: twins of
``ops.group_norm`` and ``ops.group_norm_silu``.

Moments, shifted by a pivot so that nothing is lost where the mean is far from zero:

    pivot   = mean of one row of pixels, per image and group
    offset  = mean (x − pivot)      var = mean (x − pivot)² − offset²      mean = pivot + offset

The row is 1/H of the data, so offset² ≤ (H − 1) var: the difference loses at most a factor H.

SiLU by one tanh, with h = 2a; of f = 2 sigmoid(h), which is kept, and y its derivative is made:

    f = 1 + tanh a                  y = silu(h) = a f               2 silu′(h) = f + y (2 − f)

GroupNorm backward, with xc = x − mean and means over one (n, g):

    dbias   = Σ dh      dweight = Σ r dh xc
    dx      = r weight dh − xc r³ mean(weight dh xc) − r mean(weight dh)

Sums over pixels run through BLAS. A number per channel is repeated along a row of pixels before it
meets an image, so that NumPy's inner loops are W·C long and not C.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tinyddpm.arrays import Array
from tinyddpm.kernels.cpu.sums import pixel_sums, row_sums


class GroupNormSaved(NamedTuple):
    """The input itself and 2 N·G numbers."""

    x: Array  # (N, H, W, C)
    mean: Array  # (N, G, 1)
    r: Array  # (N, G, 1)
    weight: Array  # (1, G, C/G)


class GroupNormSiluSaved(NamedTuple):
    """What the norm keeps, f, and the output, which the next layer keeps anyway."""

    norm: GroupNormSaved
    f: Array  # (N, H, W, C)
    y: Array  # (N, H, W, C)


def group_norm(
    x: Array, weight: Array, bias: Array, *, groups: int, norm_eps: float = 1e-5
) -> tuple[Array, GroupNormSaved]:
    """Normalise ``x`` (N, H, W, C) within each of ``groups`` groups of neighbouring channels.

    Raises:
        ValueError: ``groups`` does not divide C.
    """
    h, _, saved = _normalised(x, weight, bias, groups, norm_eps, factor=1.0)
    return h, saved


def group_norm_backward(dy: Array, saved: GroupNormSaved) -> tuple[Array, Array, Array]:
    """Return ``(dx, dweight, dbias)`` for ``dy`` (N, H, W, C)."""
    xc = saved.x - _along_row(saved.mean, saved.x)
    return _backward(dy, xc, np.empty_like(xc), saved, factor=1.0)


def group_norm_silu(
    x: Array, weight: Array, bias: Array, *, groups: int, norm_eps: float = 1e-5
) -> tuple[Array, GroupNormSiluSaved]:
    """Return silu(group_norm(x)) for ``x`` (N, H, W, C)."""
    a, f, norm = _normalised(x, weight, bias, groups, norm_eps, factor=0.5)
    np.tanh(a, out=f)
    f += 1
    y = np.multiply(a, f, out=a)
    return y, GroupNormSiluSaved(norm, f, y)


def group_norm_silu_backward(dy: Array, saved: GroupNormSiluSaved) -> tuple[Array, Array, Array]:
    """Return ``(dx, dweight, dbias)`` for ``dy`` (N, H, W, C)."""
    norm, f, y = saved
    dh = 2 - f
    dh *= y
    dh += f
    dh *= dy
    xc = norm.x - _along_row(norm.mean, norm.x)
    return _backward(dh, xc, np.empty_like(xc), norm, factor=0.5)


def _normalised(
    x: Array, weight: Array, bias: Array, groups: int, norm_eps: float, *, factor: float
) -> tuple[Array, Array, GroupNormSaved]:
    """Return factor·group_norm(x), an array of that shape to write on, and what to save."""
    _, height, width, channels = x.shape
    if channels % groups:
        raise ValueError(f"groups must divide the channels: got C={channels}, groups={groups}")
    w, b = weight.reshape(1, groups, -1), bias.reshape(1, groups, -1)
    pivot = _group_means(row_sums(x[:, height // 2]), groups, width)
    h = x - _along_row(pivot, x)
    offset = _group_means(pixel_sums(h), groups, height * width)
    square = h * h
    var = _group_means(pixel_sums(square), groups, height * width) - offset * offset
    r = 1 / np.sqrt(var + norm_eps)
    scale = r * w
    h *= _along_row(factor * scale, x)
    h += _along_row(factor * (b - offset * scale), x)
    return h, square, GroupNormSaved(x, pivot + offset, r, w)


def _backward(
    dh: Array, xc: Array, spare: Array, saved: GroupNormSaved, *, factor: float
) -> tuple[Array, Array, Array]:
    """The backward of GroupNorm for the gradient factor·dh; ``xc`` and ``spare`` are written on."""
    _, _, r, w = saved
    (_, height, width, channels), groups = dh.shape, r.shape[1]
    product = np.multiply(dh, xc, out=spare)
    sum_dh, sum_dh_xc = factor * pixel_sums(dh), factor * pixel_sums(product)
    per_group = (len(dh), groups, channels // groups)
    dweight = (r * sum_dh_xc.reshape(per_group)).sum(axis=0).ravel()
    mean = _group_means((w * sum_dh.reshape(per_group)), groups, height * width)
    mean_xc = _group_means((w * sum_dh_xc.reshape(per_group)), groups, height * width)
    dx = np.multiply(dh, _along_row(factor * r * w, dh), out=spare)
    xc *= _along_row(r * r * r * mean_xc, dh)
    dx -= xc
    dx -= _along_row(r * mean, dh)
    return dx, dweight, sum_dh.sum(axis=0)


def _group_means(sums: Array, groups: int, pixels: int) -> Array:
    """The means (N, G, 1) of groups of channels, from each channel's sum over ``pixels``."""
    grouped = sums.reshape(len(sums), groups, -1)
    means: Array = grouped.sum(axis=2, keepdims=True) / (pixels * grouped.shape[2])
    return means


def _along_row(values: Array, x: Array) -> Array:
    """Repeat ``values`` (N or 1, G, C/G or 1) along a row of pixels: (N or 1, 1, W, C)."""
    _, _, width, channels = x.shape
    n, groups, _ = values.shape
    row = np.empty((n, 1, width, groups, channels // groups), x.dtype)
    row[...] = values[:, None, None]
    return row.reshape(n, 1, width, channels)
