"""Comparisons of draws with the law that they should have, each with a p-value that may be trusted.

Every p-value is an upper bound on the two-sided one. It is an exact tail or a proved inequality,
and not an asymptotic approximation, so it holds far out and for any number of draws:

    z_test          Z = (value − mean)/std ~ 𝒩(0, 1)                           exact, by log Φ
    chi2_test       X ~ χ²_k, r = X/k:  P(beyond r) ≤ exp(−½ k (r − 1 − ln r))        Chernoff
    ks_test         D = sup |F_n − F|:  P(D > d) ≤ 2 exp(−2 n d²)    Dvoretzky, Kiefer, Wolfowitz;
                                                                     the constant is Massart's
    frequency_test  p̂_k of n draws:  P(beyond p̂_k) ≤ exp(−n (p̂ ln p̂/p + q̂ ln q̂/q)), q = 1 − p
                                                                     Chernoff, Hoeffding
    subgamma_test   mean of n, variance v, scale c:  P(beyond e) ≤ exp(−½ n e²/(v + c e))
                                                                     Bernstein

What holds to the last digits has no p-value between 0 and 1: ``exactly`` gives it 1 within its
tolerance, 0 beyond.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from tinyddpm.arrays import Array, IntArray
from tinyddpm.ops import normal


@dataclass(frozen=True)
class Comparison:
    """One comparison with what should be.

    Attributes:
        kind: the symbol of the statistic: z, χ²/k, D, ..., or ``error`` for what must hold exactly.
        statistic: its value.
        log_p: an upper bound on the logarithm of the p-value; above 0 it says nothing.
        tolerance: what the statistic may be, for what must hold exactly; otherwise None.
    """

    kind: str
    statistic: float
    log_p: float
    tolerance: float | None = None


def relative_error(found: Array, expected: Array) -> float:
    """Return the largest difference over the largest expected magnitude; NaN stays NaN."""
    scale = float(np.max(np.abs(expected)))
    return float(np.max(np.abs(found - expected))) / (scale or 1.0)


def exactly(error: float, tolerance: float) -> Comparison:
    """Null: ``error`` is nothing but rounding, at most ``tolerance``. NaN is not."""
    return Comparison("error", error, 0.0 if error <= tolerance else -math.inf, tolerance)


def z_test(value: float, mean: float, std: float) -> Comparison:
    """Null: ``value`` ~ 𝒩(mean, std²)."""
    z = float((value - mean) / std)
    return Comparison("z", z, math.log(2) + float(normal.log_cdf(-np.abs(np.float64(z)))))


def chi2_test(statistic: float, degrees: int) -> Comparison:
    """Null: ``statistic`` ~ χ² with ``degrees`` degrees of freedom."""
    ratio = float(statistic) / degrees
    excess = ratio - 1 - math.log(ratio) if ratio > 0 else math.inf
    return Comparison("χ²/k", ratio, math.log(2) - degrees / 2 * excess)


def ks_test(sample: Array, cdf: Callable[[Array], Array], *, slack: float = 0.0) -> Comparison:
    """Null: the elements of ``sample`` are independent draws from the distribution of ``cdf``, or
    from one whose distribution function is nowhere further from it than ``slack``.
    """
    n = sample.size
    expected = cdf(np.sort(sample.ravel()))
    steps = np.arange(n + 1) / n
    distance = float(max(np.max(steps[1:] - expected), np.max(expected - steps[:-1])))
    beyond = max(distance - slack, 0.0)  # NaN stays NaN
    return Comparison("D", distance, math.log(2) - 2 * n * beyond**2)


def frequency_test(counts: IntArray, probabilities: Array) -> Comparison:
    """Null: independent draws fell ``counts`` times into classes of these ``probabilities``, which
    sum to 1. The p-value is that of the most surprising class, times the number of classes.
    """
    n = int(counts.sum())
    found = counts / n
    surprise = _relative_entropy(found, probabilities)
    surprise += _relative_entropy(1 - found, 1 - probabilities)
    return Comparison(
        "n KL",
        n * float(surprise.max()),
        math.log(2 * len(counts)) - n * float(surprise.max()),
    )


def _relative_entropy(found: Array, expected: Array) -> Array:
    """P̂ ln p̂/p elementwise: 0 where p̂ is 0, ∞ where p alone is."""
    with np.errstate(divide="ignore", invalid="ignore"):
        entropy: Array = np.where(found > 0, found * np.log(found / expected), 0.0)
    return entropy


def subgamma_test(sample: Array, mean: float, variance: float, scale: float) -> Comparison:
    """Null: independent draws with this ``mean``, whose centred logarithmic moment generating
    function is at most ½ θ² variance/(1 − scale |θ|).

    Draws within ``bound`` of their mean are such, with scale = bound/3.
    """
    n = sample.size
    error, variance = float(sample.mean()) - mean, float(variance)
    log_p = math.log(2) - n / 2 * error**2 / (variance + scale * abs(error))
    return Comparison("z", error / math.sqrt(variance / n), log_p)


def gaussian_test(sample: Array, mean: float, variance: float) -> tuple[Comparison, ...]:
    """Null: independent draws from 𝒩(mean, variance). Mean, variance and shape."""
    n = sample.size
    standard = (sample.ravel().astype(np.float64) - mean) / math.sqrt(variance)
    return (
        z_test(float(standard.mean()), 0.0, n**-0.5),
        chi2_test(float(standard @ standard), n),
        ks_test(standard, normal.cdf),
    )


def regression_test(
    y: Array, regressors: Sequence[Array], coefficients: Sequence[float], variance: float
) -> tuple[Comparison, ...]:
    """Null: y = Σ c_i x_i + 𝒩(0, variance) noise, independent of the regressors x_i.

    Given the regressors, least squares gives ĉ ~ 𝒩(c, variance (XᵀX)⁻¹), independent of the sum of
    squares of the residuals, variance · χ²_{n − k}. So (ĉ − c)ᵀ XᵀX (ĉ − c)/variance ~ χ²_k.
    """
    x = np.stack([column.ravel() for column in regressors], axis=1)
    fitted, *_ = np.linalg.lstsq(x, y.ravel(), rcond=None)
    miss = x @ (fitted - np.array(coefficients))
    residual = y.ravel() - x @ fitted
    n, k = x.shape
    return (
        chi2_test(float(miss @ miss) / variance, k),
        chi2_test(float(residual @ residual) / variance, n - k),
    )
