"""The discrete decoder: the probability of a byte under a Gaussian (Ho et al. 2020, eq. 13).

A pixel is one of 256 levels x = k/127.5 − 1; its bin reaches half a level to both sides, and the
first and the last bin are open, so that the 256 probabilities sum to 1:

    P(x) = ∫ 𝒩(y; μ, σ²) dy = Φ(b) − Φ(a)
    a = (x − 1/255 − μ)/σ,  −∞ at x = −1          b = (x + 1/255 − μ)/σ,  ∞ at x = 1

Φ(b) − Φ(a) underflows some 38 σ from the mean, and in float32 cancels to 0 at 6 σ. So a bin above
the mean is first reflected to below it, where Φ is small and keeps its digits. Call n the end that
is nearer to the mean and f the farther one, n + f ≤ 0. The difference is taken between logarithms:

    log P = log Φ(n) + log(1 − e^(−d)),   d = log Φ(n) − log Φ(f)

    ρ     = φ(n)/P = (φ(n)/Φ(n)) / (1 − e^(−d))        e^(−g) = φ(f)/φ(n),   g = ½ (f² − n²)
    dμ    = ∓ ρ (1 − e^(−g)) / σ                       + if the bin was reflected, − if not
    d log σ² = −½ ρ (n − f e^(−g))

All of it is computed in float64. It is finite, and its gradient is not zero, at any distance. Two
approximations are in use elsewhere:

    tanh        Φ(z) ≈ ½ (1 + tanh(√(2/π) (z + 0.044715 z³))), and no probability below 10⁻¹², where
                the gradient is zero: the code published with the papers
    rectangle   P ≈ density × bin width, 2/255, which turns L_0 into a squared error; the 256
                probabilities do not sum to 1
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple, get_args

import numpy as np
import numpy.typing as npt

from tinyddpm.arrays import Array, xp_of
from tinyddpm.diffusion.arguments import check_choice, check_floats
from tinyddpm.ops.normal import cdf, log_cdf, log_cdf_derivative

Decoder = Literal["exact", "tanh", "rectangle"]

HALF_BIN = 1.0 / 255.0
LEVELS = np.arange(256) / 127.5 - 1.0

_LAST_EDGE = 1.0 - HALF_BIN  # beyond it the bin is open
_TANH_LEAST = 1e-12


class DecoderSaved(NamedTuple):
    """Four arrays of the images' size, float64, and 1/σ."""

    near: Array  # n
    far: Array  # f, −∞ for an open bin
    gap: Array  # d
    side: Array  # −1 if the bin was reflected, 1 if not
    inv_std: Array


def log_probability(x0: Array, mean: Array, log_variance: Array) -> tuple[Array, DecoderSaved]:
    """Return the log-probability of each pixel, in nats and of mean's dtype.

    log ∫ 𝒩(y; μ, σ²) dy over the bin from x − 1/255 to x + 1/255, which is open at −1 and at 1 (Ho
    et al. 2020, eq. 13).

    Args:
        x0: the pixels, levels of a byte scaled to [−1, 1].
        mean: of x0's shape.
        log_variance: of a shape that broadcasts with it.

    Raises:
        UsageError: ``x0`` or ``mean`` is of integers, such as the bytes themselves.
    """
    check_floats(x0=x0, mean=mean)
    xp = xp_of(mean)
    inv_std = xp.exp(-0.5 * log_variance.astype(np.float64))
    lower, upper = _edges(x0.astype(np.float64), mean.astype(np.float64), inv_std)
    reflected = lower + upper > 0
    near, far = xp.where(reflected, -lower, upper), xp.where(reflected, -upper, lower)
    log_near = log_cdf(near)
    gap = log_near - log_cdf(far)
    log_p: Array = (log_near + _log_one_minus_exp(gap)).astype(mean.dtype)
    return log_p, DecoderSaved(near, far, gap, xp.where(reflected, -1.0, 1.0), inv_std)


def log_probability_backward(dlog_p: Array, saved: DecoderSaved) -> tuple[Array, Array]:
    """Return ``(dmean, dlog_variance)``, both of the shape and dtype of ``dlog_p``."""
    near, far, gap, side, inv_std = saved
    xp = xp_of(near)
    density = log_cdf_derivative(near) / -xp.expm1(-gap)
    log_decay = -0.5 * (far - near) * (far + near)
    dmean = side * inv_std * density * xp.expm1(log_decay)
    held_far = xp.where(xp.isinf(far), 0.0, far)  # an open end does not move: its decay is 0
    dlog_variance = -0.5 * density * (near - held_far * xp.exp(log_decay))
    return (dlog_p * dmean).astype(dlog_p.dtype), (dlog_p * dlog_variance).astype(dlog_p.dtype)


def tanh_log_probability(x0: Array, mean: Array, log_variance: Array) -> Array:
    """Return the log-probability that the published code computes, in nats.

    Shapes and refusals are those of ``log_probability``; all of it is in the dtype of the inputs.
    """
    check_floats(x0=x0, mean=mean)
    xp = xp_of(mean)
    lower, upper = _edges(x0, mean, xp.exp(-0.5 * log_variance))
    p = _tanh_cdf(upper) - _tanh_cdf(lower)
    log_p: Array = xp.log(xp.maximum(p, _TANH_LEAST))
    return log_p


def rectangle_log_probability(x0: Array, mean: Array, log_variance: Array) -> Array:
    """Return the logarithm of density × bin width, in nats: a squared error and constants.

    Shapes and refusals are those of ``log_probability``.
    """
    check_floats(x0=x0, mean=mean)
    xp = xp_of(mean)
    log_density = (x0 - mean) ** 2 * xp.exp(-log_variance) + log_variance + math.log(2 * math.pi)
    log_p: Array = -0.5 * log_density + math.log(2.0 * HALF_BIN)
    return log_p


def log_bins(mean: Array, log_variance: Array, decoder: Decoder = "exact") -> Array:
    """Return the log-probability of each of the 256 levels, (…, 256), in nats.

    ``mean`` and ``log_variance`` are (…).

    Raises:
        UsageError: there is no such ``decoder``, or ``mean`` is of integers.
    """
    check_choice("decoder", decoder, get_args(Decoder))
    x0 = xp_of(mean).asarray(LEVELS.astype(mean.dtype))
    centre, spread = mean[..., None], log_variance[..., None]
    centre = centre + xp_of(mean).zeros_like(x0)
    if decoder == "tanh":
        return tanh_log_probability(x0, centre, spread)
    if decoder == "rectangle":
        return rectangle_log_probability(x0, centre, spread)
    return log_probability(x0, centre, spread)[0]


def decoder_cost(decoder: Decoder, mean: Array, log_variance: Array) -> Array:
    """Return the bits per pixel that ``decoder`` reports beyond the exact one, elementwise.

    It is the mean over pixels that are drawn from the exact decoder. That of the rectangle can be
    negative, because its probabilities do not sum to 1.
    """
    exact = log_bins(mean, log_variance)
    difference = exact - log_bins(mean, log_variance, decoder)
    cost: Array = (xp_of(mean).exp(exact) * difference).sum(axis=-1) / math.log(2.0)
    return cost


def decoder_floor(histogram: npt.ArrayLike, std: float) -> float:
    """Return the least bits/dim of L_0 for pixels of this ``histogram`` (256,) and σ_1 = ``std``.

    The best mean within [−1, 1] is the pixel's own level, and then the pixel costs

        −log₂ Φ(1/255σ) for black and white          −log₂ (2 Φ(1/255σ) − 1) for the greys

    so no network whose mean is held in [−1, 1] can do better.
    """
    counts = np.asarray(histogram, np.float64)
    log_p, _ = log_probability(LEVELS, LEVELS, np.array(2.0 * math.log(std)))
    return float(-(counts @ log_p) / counts.sum() / math.log(2.0))


class WorkedExample(NamedTuple):
    """One pixel through the decoder, number by number."""

    x0: float
    a: float
    b: float
    cdf_a: float
    cdf_b: float
    probability: float
    rectangle: float
    bits: float


def worked_example(level: int = 128, mean: float = 0.0, std: float = 0.01) -> WorkedExample:
    """Return the numbers on the way from a byte to its bits."""
    x0, mu, log_variance = LEVELS[level], np.array(mean), np.array(2.0 * math.log(std))
    a, b = _edges(x0, mu, np.array(1.0 / std))
    log_p, _ = log_probability(x0, mu, log_variance)
    rectangle = math.exp(rectangle_log_probability(x0, mu, log_variance))
    numbers = x0, a, b, cdf(a), cdf(b), math.exp(log_p), rectangle, -log_p / math.log(2.0)
    return WorkedExample(*(float(number) for number in numbers))


def _edges(x0: Array, mean: Array, inv_std: Array) -> tuple[Array, Array]:
    """The ends a and b of each bin, in standard deviations from the mean."""
    xp = xp_of(mean)
    centred = x0 - mean
    lower = xp.where(x0 < -_LAST_EDGE, -np.inf, (centred - HALF_BIN) * inv_std)
    upper = xp.where(x0 > _LAST_EDGE, np.inf, (centred + HALF_BIN) * inv_std)
    return lower.astype(mean.dtype), upper.astype(mean.dtype)


def _log_one_minus_exp(gap: Array) -> Array:
    """log(1 − e^(−d)), right to the last digits for small and for large d."""
    xp = xp_of(gap)
    value: Array = xp.where(gap < math.log(2.0), xp.log(-xp.expm1(-gap)), xp.log1p(-xp.exp(-gap)))
    return value


def _tanh_cdf(z: Array) -> Array:
    xp = xp_of(z)
    approximation: Array = 0.5 * (
        1.0 + xp.tanh(math.sqrt(2.0 / math.pi) * (z + 0.044715 * z * z * z))
    )
    return approximation
