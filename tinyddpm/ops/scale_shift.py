"""Per-channel scale and shift by a condition (FiLM; Nichol & Dhariwal 2021, arXiv 2102.09672,
appendix A: "scale-shift norm").

    y      = x (1 + scale) + shift
    dx     = dy (1 + scale)      dscale = Σ_{h,w} dy x      dshift = Σ_{h,w} dy

This is the definition. After a norm it amounts to another weight and bias of the norm for each
image, and that is how the network computes it (``nn.layers.GroupNorm``).
"""

from __future__ import annotations

from typing import NamedTuple

from tinyddpm.arrays import Array


class ScaleShiftSaved(NamedTuple):
    """The input itself and the scale."""

    x: Array  # (N, H, W, C)
    scale: Array  # (N, C)


def scale_shift(x: Array, scale: Array, shift: Array) -> tuple[Array, ScaleShiftSaved]:
    """Modulate ``x`` (N, H, W, C) with ``scale`` and ``shift`` (N, C).

    y = x (1 + scale) + shift (Nichol & Dhariwal 2021, appendix A).
    """
    y = x * (1 + scale[:, None, None]) + shift[:, None, None]
    return y, ScaleShiftSaved(x, scale)


def scale_shift_backward(dy: Array, saved: ScaleShiftSaved) -> tuple[Array, Array, Array]:
    """Return ``(dx, dscale, dshift)`` for ``dy`` (N, H, W, C)."""
    x, scale = saved
    dx = dy * (1 + scale[:, None, None])
    return dx, (dy * x).sum(axis=(1, 2)), dy.sum(axis=(1, 2))
