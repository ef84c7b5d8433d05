"""Two-dimensional convolution (cross-correlation, as in every deep-learning library), channels
last.

With the input zero-padded by ``pad = (before, after)`` on both image axes and stride s,

    y[n, i, j]     = bias + Σ_{a, b} x_padded[n, s i + a, s j + b] weight[a, b] + residual[n, i, j]
    dweight[a, b]  = Σ_{n, i, j} x_padded[n, s i + a, s j + b]ᵀ dy[n, i, j]
    dx_padded[n, s i + a, s j + b] += dy[n, i, j] weight[a, b]ᵀ       for every tap (a, b)
    dbias          = Σ_{n, i, j} dy[n, i, j]

Each tap (a, b) is one matrix product over the channels: forward and backward read the same way, and
no unfolded copy of the input is kept. Each image may have a bias of its own, and dbias is then not
summed over n; in this way a block is told the time (Ho et al. 2020, arXiv 2006.11239, appendix B).
The gradient of the residual is dy.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from tinyddpm.arrays import Array, xp_of


class Conv2dSaved(NamedTuple):
    """The unpadded input itself; nothing is copied."""

    x: Array  # (N, H, W, C_in)
    weight: Array  # (kh, kw, C_in, C_out)
    stride: int
    pad: tuple[int, int]
    summed: tuple[int, ...]  # the axes that bias does not have


def conv2d(
    x: Array,
    weight: Array,
    bias: Array,
    *,
    stride: int = 1,
    pad: tuple[int, int] = (1, 1),
    residual: Array | None = None,
) -> tuple[Array, Conv2dSaved]:
    """Convolve ``x`` (N, H, W, C_in) with ``weight`` (kh, kw, C_in, C_out).

    y[n, i, j] = bias + Σ_{a, b} x_padded[n, s i + a, s j + b] weight[a, b], s the ``stride``, and
    ``residual`` (N, H_out, W_out, C_out) is added where there is one. ``bias`` is (C_out,), or
    (N, C_out), one for each image. ``pad`` is the number of zero rows (and columns) before and
    after the image: (1, 1) for a 3×3 kernel in the middle, (0, 1) for the stride-2 convolutions of
    Ho et al., (0, 0) for 1×1.
    """
    x_padded = _padded(x, pad)
    y = xp_of(x).zeros(
        (len(x), *_output_size(x_padded, weight, stride), weight.shape[3]),
        xp_of(x).result_type(x, weight),
    )
    for a, b in _taps(weight):
        y += _window(x_padded, a, b, y, stride) @ weight[a, b]
    y = y + bias.reshape(-1, 1, 1, y.shape[3])
    saved = Conv2dSaved(x, weight, stride, pad, (0, 1, 2) if bias.ndim == 1 else (1, 2))
    return y if residual is None else y + residual, saved


def conv2d_backward(dy: Array, saved: Conv2dSaved) -> tuple[Array, Array, Array]:
    """Return ``(dx, dweight, dbias)`` for ``dy`` (N, H_out, W_out, C_out)."""
    x, weight, stride, pad, summed = saved
    xp = xp_of(dy)
    rows = dy.reshape(-1, dy.shape[3])
    x_padded = _padded(x, pad)
    dx_padded = xp.zeros_like(x_padded)
    dweight = xp.zeros_like(weight)
    for a, b in _taps(weight):
        window = _window(x_padded, a, b, dy, stride)
        dweight[a, b] = window.reshape(-1, x.shape[3]).T @ rows
        dwindow = _window(dx_padded, a, b, dy, stride)
        dwindow += dy @ weight[a, b].T
    before, (height, width) = pad[0], x.shape[1:3]
    dx = dx_padded[:, before : before + height, before : before + width]
    return dx, dweight, dy.sum(axis=summed)


def _padded(x: Array, pad: tuple[int, int]) -> Array:
    padded: Array = xp_of(x).pad(x, ((0, 0), pad, pad, (0, 0)))
    return padded


def _output_size(x_padded: Array, weight: Array, stride: int) -> tuple[int, int]:
    (height, width), (kh, kw) = x_padded.shape[1:3], weight.shape[:2]
    return (height - kh) // stride + 1, (width - kw) // stride + 1


def _taps(weight: Array) -> Iterator[tuple[int, int]]:
    return ((a, b) for a in range(weight.shape[0]) for b in range(weight.shape[1]))


def _window(x_padded: Array, a: int, b: int, y: Array, stride: int) -> Array:
    """The pixels of ``x_padded`` that tap (a, b) meets, one for each pixel of ``y``: a view."""
    height, width = y.shape[1:3]
    rows = slice(a, a + stride * (height - 1) + 1, stride)
    columns = slice(b, b + stride * (width - 1) + 1, stride)
    return x_padded[:, rows, columns]
