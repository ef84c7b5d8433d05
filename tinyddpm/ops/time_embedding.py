"""Sinusoidal embedding of the time (Vaswani et al. 2017, arXiv 1706.03762, section 3.5).

    ω_i = 10000^(−i / (half − shift)),   i = 0 … half − 1,   half = dim / 2
    y   = [sin(t ω) | cos(t ω)]   or   [cos(t ω) | sin(t ω)]
    dt  = Σ_i ω_i (dsin_i cos(t ω_i) − dcos_i sin(t ω_i))

Ho et al. use "sin|cos" with shift 1; improved-diffusion uses "cos|sin" with shift 0. A network
trained with the one cannot be run with the other.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

from tinyddpm.arrays import Array, xp_of

EmbeddingOrder = Literal["sin|cos", "cos|sin"]


class TimeEmbeddingSaved(NamedTuple):
    """Both halves and the frequencies."""

    sin: Array  # (N, half)
    cos: Array  # (N, half)
    omega: Array  # (half,)
    order: EmbeddingOrder


def time_embedding(
    t: Array, *, dim: int, order: EmbeddingOrder = "cos|sin", shift: int = 0
) -> tuple[Array, TimeEmbeddingSaved]:
    """Embed times ``t`` (N,), a float array, fractions allowed, as (N, dim).

    sin(t ω_i) and cos(t ω_i), ω_i = 10000^(−i/(half − shift)), i = 0 … half − 1, half = dim/2
    (Vaswani et al. 2017, section 3.5).

    Raises:
        ValueError: ``dim`` is odd, or too small for the shift.
    """
    half = dim // 2
    if dim % 2 or half <= shift:
        raise ValueError(f"dim must be even and above {2 * shift}: got {dim}")
    xp = xp_of(t)
    exponents = xp.arange(half, dtype=t.real.dtype) / (half - shift)
    omega = xp.exp(-math.log(10000) * exponents)
    angle = t[:, None] * omega
    sin, cos = xp.sin(angle), xp.cos(angle)
    halves = [sin, cos] if order == "sin|cos" else [cos, sin]
    return xp.concatenate(halves, axis=1), TimeEmbeddingSaved(sin, cos, omega, order)


def time_embedding_backward(dy: Array, saved: TimeEmbeddingSaved) -> Array:
    """Return ``dt`` (N,) for ``dy`` (N, dim)."""
    sin, cos, omega, order = saved
    first, second = dy[:, : len(omega)], dy[:, len(omega) :]
    dsin, dcos = (first, second) if order == "sin|cos" else (second, first)
    dt: Array = ((dsin * cos - dcos * sin) * omega).sum(axis=1)
    return dt
