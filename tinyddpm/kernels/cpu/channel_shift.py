"""A number per image and channel, added to every pixel: twin of ``ops.channel_shift``.

The numbers are repeated along a row of pixels first, so that NumPy's inner loop is W·C long.
"""

from __future__ import annotations

from tinyddpm.arrays import Array
from tinyddpm.kernels.cpu.sums import pixel_sums


def channel_shift(x: Array, shift: Array) -> tuple[Array, None]:
    """Add ``shift`` (N, C) to every pixel of ``x`` (N, H, W, C)."""
    return x + shift[:, None, None].repeat(x.shape[2], axis=2), None


def channel_shift_backward(dy: Array, _: None) -> tuple[Array, Array]:
    """Return ``(dx, dshift)`` for ``dy`` (N, H, W, C); dx is dy itself."""
    return dy, pixel_sums(dy)
