"""Identities of one Gaussian, or two: drawing, comparing, and integrating over the bin of a byte.

Ho et al. 2020 (arXiv 2006.11239), section 3.3 and appendix A.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from tinyddpm import rng
from tinyddpm.arrays import Array
from tinyddpm.data.pixels import from_bytes, to_bytes
from tinyddpm.diffusion.decoder import HALF_BIN, log_probability, rectangle_log_probability
from tinyddpm.diffusion.kl import normal_kl
from tinyddpm.identities.registry import Setting, identity
from tinyddpm.identities.statistics import (
    Comparison,
    exactly,
    frequency_test,
    gaussian_test,
    subgamma_test,
)
from tinyddpm.ops.normal import inverse_cdf


@identity(
    "i",
    "uniforms become normals",
    "Φ⁻¹(u) ~ 𝒩(0, 1), and √(−2 ln u₁) (cos 2πu₂, sin 2πu₂) ~ 𝒩(0, I)",
    inverse_cdf,
    rng.uniform,
    rng.normal,
)
def inverse_cdf_and_box_muller(setting: Setting) -> Iterator[Comparison]:
    """Null: both are independent standard normals."""
    places, shape = np.arange(setting.samples), setting.shape
    u = rng.uniform(setting.seed, "t", step=0, samples=places, shape=shape)
    yield from gaussian_test(inverse_cdf(u), 0.0, 1.0)
    z = setting.normal(0)
    yield from gaussian_test(z, 0.0, 1.0)
    # Both normals of a pair come from the same two words; their sum tells whether they are related.
    flat = z.reshape(setting.samples, -1)
    if flat.shape[1] > 1:
        yield from gaussian_test(flat[:, 0] + flat[:, 1], 0.0, 2.0)


@identity(
    "vi",
    "KL of two Gaussians",
    "KL(𝒩₁ ‖ 𝒩₂) = E_{x~𝒩₁} log 𝒩₁(x)/𝒩₂(x)",
    normal_kl,
)
def divergence_is_mean_log_ratio(setting: Setting) -> Iterator[Comparison]:
    """Null: the mean of log 𝒩₁(x)/𝒩₂(x) over x ~ 𝒩₁ is the divergence.

    With x = m₁ + σ₁ z the logarithm is a z² + b z + const, a = ½ (σ₁²/σ₂² − 1) and
    b = σ₁ (m₁ − m₂)/σ₂²; its logarithmic moment generating function, −½ log(1 − 2aθ) − aθ +
    ½ b²θ²/(1 − 2aθ) once centred, is at most ½ θ² (2a² + b²)/(1 − 2|aθ|).
    """
    m1, l1, m2, l2 = setting.numbers(4, -1.5, 1.5)
    x = m1 + math.exp(l1 / 2) * setting.normal(0)
    log_ratio = 0.5 * (l2 - l1 + (x - m2) ** 2 / math.exp(l2) - (x - m1) ** 2 / math.exp(l1))
    a, b = 0.5 * (math.exp(l1 - l2) - 1), math.exp(l1 / 2 - l2) * (m1 - m2)
    divergence = float(normal_kl(*(np.array(value) for value in (m1, l1, m2, l2))))
    yield subgamma_test(log_ratio, divergence, 2 * a * a + b * b + 1e-20, 2 * abs(a))


@identity(
    "xii",
    "bins of the decoder",
    "Σ_k P(byte k) = 1, and P(byte k) is how often x ~ 𝒩(μ, σ²), clipped and rounded, is byte k",
    log_probability,
    to_bytes,
    from_bytes,
)
def bins_are_frequencies(setting: Setting) -> Iterator[Comparison]:
    """Null: the bytes of Gaussian draws fall into the 256 bins with the decoder's probabilities.

    The narrowest Gaussian is of about one bin, as σ_1 of the published schedules is.
    """
    z, levels = setting.normal(0), from_bytes(np.arange(256, dtype=np.uint8), np.float64)
    for std in (0.0074, 0.03, 0.3):
        for mean in (0.0, *setting.numbers(2, -1.1, 1.1)):
            log_variance = np.array(2 * math.log(std))
            log_p, _ = log_probability(levels, np.full(256, mean), log_variance)
            p = np.exp(log_p)
            yield exactly(abs(float(p.sum()) - 1), 1e-12)
            counts = np.bincount(to_bytes(mean + std * z).ravel(), minlength=256)
            yield frequency_test(counts, p)


@identity(
    "xiii",
    "rectangle for the integral",
    "∫ φ over a bin of width h = h φ + h³ φ″/24 + R,   |R| ≤ h⁵ max |φ⁗|/1920",
    log_probability,
    rectangle_log_probability,
)
def rectangle_misses_by_the_curvature(setting: Setting) -> Iterator[Comparison]:
    """What is left after h³ φ″/24, in the bins within 6 σ and not at the edge, relative to the
    largest rectangle, h/(√(2π) σ): at most 3/1920 (h/σ)⁴, for φ⁗ is at most 3/(√(2π) σ⁵).
    """
    h = 2 * HALF_BIN
    levels = np.arange(1, 255) / 127.5 - 1
    for mean, std in zip(setting.numbers(4, -0.9, 0.9), (0.02, 0.05, 0.1, 0.2), strict=True):
        x0 = levels[np.abs(levels - mean) < 6 * std]
        arguments = x0, np.full(x0.shape, mean), np.array(2 * math.log(std))
        p = np.exp(log_probability(*arguments)[0])
        rectangle = np.exp(rectangle_log_probability(*arguments))
        rest = p - rectangle - h**3 / 24 * _second_derivative(x0, mean, std)
        largest = h / (math.sqrt(2 * math.pi) * std)
        yield exactly(float(np.max(np.abs(rest))) / largest, 3 / 1920 * (h / std) ** 4 + 1e-12)


def _second_derivative(x: Array, mean: float, std: float) -> Array:
    """φ″ of the density of 𝒩(mean, std²)."""
    z = (x - mean) / std
    second: Array = (z * z - 1) * np.exp(-0.5 * z * z) / (math.sqrt(2 * math.pi) * std**3)
    return second
