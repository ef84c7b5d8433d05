"""Group normalisation, alone and followed by SiLU, in few passes over memory: twins of
``ops.group_norm`` and ``ops.group_norm_silu``.

Moments of z, with μ its mean over an image's group (n, g):

    μ = mean(z)        var = mean(z²) − μ²

z is x itself if μ² ≤ 16 var in every group: the difference then loses little more than one digit.
If one group is farther from zero, all of x is centred first: z = x − mean(x), whose μ is nothing
but rounding.

SiLU takes one tanh. With h = 2a, f = 2 sigmoid(h) and y also give its derivative:

    f = 1 + tanh a                  y = silu(h) = a f               2 silu′(h) = f + y (2 − f)

The backward needs f and y. If there are few channels, they are kept. If there are many, they are
computed again, which takes a hundredth of a step's time and spares a third of the memory kept.

GroupNorm backward, with zc = z − μ and means over one (n, g):

    dbias   = Σ dh      dweight = r Σ dh zc,      Σ dh zc = Σ dh z − μ Σ dh
    dx      = r weight dh − s zc − r mean(weight dh),      s = r³ mean(weight dh zc)
            = r weight dh − s z − (r mean(weight dh) − s μ)          (+ dskip)

dbias and dweight are added up over the images where these share bias and weight.

BLAS takes the sums over pixels. Before a number per channel meets an image, it is repeated along a
row of pixels, so that NumPy's inner loops have the length W·C, and not C.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tinyddpm.arrays import Array
from tinyddpm.kernels.cpu.sums import pixel_sums

_FAR = 16.0  # μ² above that many var
MANY_CHANNELS = 128


class GroupNormSaved(NamedTuple):
    """The input, or z if that is not the input; 2 N·G numbers; and the parameters."""

    z: Array  # (N, H, W, C)
    mean: Array  # (N, G, 1), of z
    r: Array  # (N, G, 1)
    weight: Array  # (1 or N, G, C/G)
    bias: Array  # (1 or N, G, C/G)
    shared: bool  # whether they are (C,), the same for all images


class GroupNormSiluSaved(NamedTuple):
    """What the norm keeps and, if there are few channels, y and f, (N, H, W, C) each."""

    norm: GroupNormSaved
    activated: tuple[Array, Array] | None


def group_norm(
    x: Array, weight: Array, bias: Array, *, groups: int, norm_eps: float = 1e-5
) -> tuple[Array, GroupNormSaved]:
    """Normalise ``x`` (N, H, W, C) within each of ``groups`` groups of neighbouring channels;
    ``weight`` and ``bias`` are (C,), or (N, C) for each image.

    Raises:
        ValueError: ``groups`` does not divide C.
    """
    saved = _moments(x, weight, bias, groups, norm_eps)
    return _normalised(saved, factor=1.0), saved


def group_norm_backward(
    dy: Array, saved: GroupNormSaved, dskip: Array | None = None
) -> tuple[Array, Array, Array]:
    """Return ``(dx, dweight, dbias)`` for ``dy`` (N, H, W, C); ``dskip`` is added to dx."""
    return _backward(dy, saved, dskip, factor=1.0)


def group_norm_silu(
    x: Array, weight: Array, bias: Array, *, groups: int, norm_eps: float = 1e-5
) -> tuple[Array, GroupNormSiluSaved]:
    """Return silu(group_norm(x)) for ``x`` (N, H, W, C); see ``group_norm``."""
    norm = _moments(x, weight, bias, groups, norm_eps)
    y, f = _activated(norm)
    return y, GroupNormSiluSaved(norm, (y, f) if x.shape[3] < MANY_CHANNELS else None)


def group_norm_silu_backward(
    dy: Array, saved: GroupNormSiluSaved, dskip: Array | None = None
) -> tuple[Array, Array, Array]:
    """Return ``(dx, dweight, dbias)`` for ``dy`` (N, H, W, C); ``dskip`` is added to dx."""
    norm, kept = saved
    y, f = kept or _activated(norm)
    dh = 2 - f
    dh *= y
    dh += f
    dh *= dy
    return _backward(dh, norm, dskip, factor=0.5)


def _moments(x: Array, weight: Array, bias: Array, groups: int, norm_eps: float) -> GroupNormSaved:
    _, height, width, channels = x.shape
    if channels % groups:
        raise ValueError(f"groups must divide the channels: got C={channels}, groups={groups}")
    w, b = (values.reshape(-1, groups, channels // groups) for values in (weight, bias))
    pixels = height * width
    z, mean = x, _group_means(pixel_sums(x), groups, pixels)
    square = x * x
    var = _group_means(pixel_sums(square), groups, pixels) - mean * mean
    if (mean * mean > _FAR * var).any():
        z = x - _along_row(mean, x)
        mean = _group_means(pixel_sums(z), groups, pixels)
        np.multiply(z, z, out=square)
        var = _group_means(pixel_sums(square), groups, pixels) - mean * mean
    return GroupNormSaved(z, mean, 1 / np.sqrt(var + norm_eps), w, b, weight.ndim == 1)


def _normalised(saved: GroupNormSaved, *, factor: float) -> Array:
    """Return factor·group_norm(x)."""
    z, mean, r, w, b, _ = saved
    scale = r * w
    h = z * _along_row(factor * scale, z)
    h += _along_row(factor * (b - mean * scale), z)
    return h


def _activated(norm: GroupNormSaved) -> tuple[Array, Array]:
    """Return y and f."""
    a = _normalised(norm, factor=0.5)
    f = np.tanh(a)
    f += 1
    return np.multiply(a, f, out=a), f


def _backward(
    dh: Array, saved: GroupNormSaved, dskip: Array | None, *, factor: float
) -> tuple[Array, Array, Array]:
    """The backward of GroupNorm for the gradient factor·dh."""
    z, mean, r, w, _, shared = saved
    (n, height, width, channels), groups = dh.shape, r.shape[1]
    pixels, per_group = height * width, (n, groups, channels // groups)
    product = dh * z
    sum_dh = factor * pixel_sums(dh).reshape(per_group)
    sum_dh_zc = factor * pixel_sums(product).reshape(per_group) - mean * sum_dh
    mean_dh = _group_means(w * sum_dh, groups, pixels)
    slope = r * r * r * _group_means(w * sum_dh_zc, groups, pixels)
    dx = dh * _along_row(factor * r * w, dh)
    dx -= np.multiply(z, _along_row(slope, dh), out=product)
    dx -= _along_row(r * mean_dh - slope * mean, dh)
    if dskip is not None:
        dx += dskip
    dweight, dbias = (r * sum_dh_zc).reshape(n, channels), sum_dh.reshape(n, channels)
    return (dx, dweight.sum(axis=0), dbias.sum(axis=0)) if shared else (dx, dweight, dbias)


def _group_means(sums: Array, groups: int, pixels: int) -> Array:
    """The means (N, G, 1) of groups of channels, from each channel's sum over ``pixels``."""
    grouped = sums.reshape(len(sums), groups, -1)
    means: Array = grouped.sum(axis=2, keepdims=True) / (pixels * grouped.shape[2])
    return means


def _along_row(values: Array, x: Array) -> Array:
    """Repeat ``values`` (N or 1, G, C/G or 1) along a row of pixels: (N or 1, 1, W, C)."""
    _, _, width, channels = x.shape
    n, groups, _ = values.shape
    per_channel = np.empty((n, groups, channels // groups), x.dtype)
    per_channel[...] = values
    return per_channel.reshape(n, 1, 1, channels).repeat(width, axis=2)
