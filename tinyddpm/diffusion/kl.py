"""The Kullback–Leibler divergence of two Gaussians, per coordinate.

    KL(𝒩(m₁, σ₁²) ‖ 𝒩(m₂, σ₂²)) = ½ (log σ₂² − log σ₁² + σ₁²/σ₂² − 1 + (m₁ − m₂)²/σ₂²)

With equal variances it is (m₁ − m₂)²/2σ², which turns the bound into a squared error. The gradient
is taken with respect to the second Gaussian, the model's:

    dm₂ = (m₂ − m₁)/σ₂²            d log σ₂² = ½ (1 − σ₁²/σ₂² − (m₁ − m₂)²/σ₂²)
"""

from __future__ import annotations

from typing import NamedTuple

from tinyddpm.arrays import Array, xp_of


class NormalKlSaved(NamedTuple):
    """The arguments of ``normal_kl``: the backward needs nothing else."""

    mean1: Array
    log_variance1: Array
    mean2: Array
    log_variance2: Array


def normal_kl(mean1: Array, log_variance1: Array, mean2: Array, log_variance2: Array) -> Array:
    """Return KL(𝒩₁ ‖ 𝒩₂), elementwise, in nats; the arguments are broadcast together.

    ½ (log σ₂² − log σ₁² + σ₁²/σ₂² − 1 + (m₁ − m₂)²/σ₂²), each term L_{t−1} of the bound (Nichol &
    Dhariwal 2021, section 2.1).
    """
    xp = xp_of(mean1)
    ratio = log_variance1 - log_variance2
    # expm1(r) − r, not exp(r) − 1 − r: fewer digits cancel where the variances nearly agree.
    from_variances = xp.expm1(ratio) - ratio
    from_means = (mean1 - mean2) ** 2 * xp.exp(-log_variance2)
    divergence: Array = 0.5 * (from_variances + from_means)
    return divergence


def normal_kl_backward(ddivergence: Array, saved: NormalKlSaved) -> tuple[Array, Array]:
    """Return ``(dmean2, dlog_variance2)``, both of the shape of the divergence."""
    m1, log1, m2, log2 = saved
    xp = xp_of(m1)
    dmean = (m2 - m1) * xp.exp(-log2)
    dlog_variance = -0.5 * (xp.expm1(log1 - log2) + (m2 - m1) * dmean)
    return ddivergence * dmean, ddivergence * dlog_variance
