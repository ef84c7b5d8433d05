"""A number per image and channel, added to every pixel: how a block is told the time (Ho et al.
2020, arXiv 2006.11239, appendix B).

y = x + shift        dx = dy        dshift = Σ_{h,w} dy
"""

from __future__ import annotations

from tinyddpm.arrays import Array


def channel_shift(x: Array, shift: Array) -> tuple[Array, None]:
    """Add ``shift`` (N, C) to every pixel of ``x`` (N, H, W, C)."""
    return x + shift[:, None, None], None


def channel_shift_backward(dy: Array, _: None) -> tuple[Array, Array]:
    """Return ``(dx, dshift)`` for ``dy`` (N, H, W, C); dx is dy itself."""
    return dy, dy.sum(axis=(1, 2))
