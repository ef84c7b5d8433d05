"""Doubling of an image followed by a 3×3 convolution, the way up in the U-Net.

    y = conv2d(upsample(x)),   padding (1, 1)

The composition is an op of its own because it is less work than its parts. Each pixel stands four
times in the doubled image, so a 3×3 kernel meets at most 2×2 different ones; which of its taps meet
the same one depends only on whether the row and the column of the pixel of y are even or odd.
"""

from __future__ import annotations

from tinyddpm.arrays import Array
from tinyddpm.ops.conv2d import Conv2dSaved, conv2d, conv2d_backward
from tinyddpm.ops.upsample import upsample, upsample_backward


def upsample_conv2d(x: Array, weight: Array, bias: Array) -> tuple[Array, Conv2dSaved]:
    """Double ``x`` (N, H, W, C_in), convolve with ``weight`` (3, 3, C_in, C_out).

    y = conv2d(upsample(x)), padding (1, 1): (N, 2H, 2W, C_out).
    """
    return conv2d(upsample(x), weight, bias)


def upsample_conv2d_backward(dy: Array, saved: Conv2dSaved) -> tuple[Array, Array, Array]:
    """Return ``(dx, dweight, dbias)`` for ``dy`` (N, 2H, 2W, C_out)."""
    doubled, dweight, dbias = conv2d_backward(dy, saved)
    return upsample_backward(doubled), dweight, dbias
