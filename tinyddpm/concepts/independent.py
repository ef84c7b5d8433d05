"""The other way: slow and plain arithmetic that shares nothing with the rest of the package.

Integrals are sums over a fine even grid, which for a Gaussian is exact to rounding once the grid is
finer than its standard deviation; tails are ``math.erfc``; schedules are fractions.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[Any]


def normals(seed: int, *shape: int) -> Floats:
    """Draw standard normals with NumPy's own generator, not the package's."""
    return np.random.Generator(np.random.Philox(seed)).standard_normal(shape)


def density(x: npt.ArrayLike, mean: npt.ArrayLike, variance: npt.ArrayLike) -> Floats:
    """𝒩(x; mean, variance)."""
    x, mean, variance = np.asarray(x), np.asarray(mean), np.asarray(variance)
    value: Floats = np.exp(-0.5 * (x - mean) ** 2 / variance) / np.sqrt(2.0 * np.pi * variance)
    return value


def grid(centre: float, reach: float, points: int = 20_001) -> tuple[Floats, float]:
    """Even points within ``reach`` of ``centre``, and their distance."""
    x = np.linspace(centre - reach, centre + reach, points)
    return x, 2.0 * reach / (points - 1)


def kl(mean1: float, variance1: float, mean2: float, variance2: float) -> float:
    """KL(𝒩₁ ‖ 𝒩₂) as ∫ p₁ log(p₁/p₂), summed over a grid of ±12 standard deviations."""
    x, dx = grid(mean1, 12.0 * math.sqrt(variance1))
    square = (x - mean2) ** 2 / variance2 - (x - mean1) ** 2 / variance1
    log_ratio = 0.5 * (math.log(variance2 / variance1) + square)
    return float((density(x, mean1, variance1) * log_ratio).sum() * dx)


def bin_probability(lower: float, upper: float, mean: float, std: float) -> float:
    """∫ 𝒩 from ``lower`` to ``upper`` by erfc, in whichever tail nothing cancels."""
    a, b = (lower - mean) / (std * math.sqrt(2.0)), (upper - mean) / (std * math.sqrt(2.0))
    if a + b < 0.0:
        a, b = -b, -a
    return 0.5 * (math.erfc(a) - math.erfc(b))


def byte_probability(level: int, mean: float, std: float) -> float:
    """The probability of grey level ``level`` of 0 … 255, the outer bins being open."""
    lower = -math.inf if level == 0 else (2 * level - 1) / 255 - 1
    upper = math.inf if level == 255 else (2 * level + 1) / 255 - 1
    return bin_probability(lower, upper, mean, std)


def simpson(f: Callable[[float], float], lower: float, upper: float, cells: int = 200) -> float:
    """∫ f by Simpson's rule."""
    h = (upper - lower) / (2 * cells)
    weights = [1.0, *([4.0, 2.0] * cells)[:-1], 1.0]
    return math.fsum(w * f(lower + i * h) for i, w in enumerate(weights)) * h / 3.0


def inverse_cdf(u: float) -> float:
    """The x with Φ(x) = u, by halving an interval 200 times."""
    low, high = -40.0, 40.0
    for _ in range(200):
        middle = 0.5 * (low + high)
        below = 0.5 * math.erfc(-middle / math.sqrt(2.0)) < u
        low, high = (middle, high) if below else (low, middle)
    return 0.5 * (low + high)


def linear_beta(t: int, T: int) -> Fraction:
    """β_t of the linear schedule, a fraction."""
    first, last = Fraction(1, 10_000), Fraction(2, 100)
    return Fraction(1000, T) * (first + Fraction(t - 1, T - 1) * (last - first))


def cosine_alpha_bar(t: int, T: int, s: float = 0.008) -> float:
    """ᾱ_t of the cosine schedule, where no β is clipped."""
    f_t = math.cos((t / T + s) / (1 + s) * math.pi / 2) ** 2
    return f_t / math.cos(s / (1 + s) * math.pi / 2) ** 2


def walk(beta: npt.ArrayLike) -> tuple[Floats, Floats]:
    """Signal and variance of x_1 … x_T given x_0, step by step: variances of sums add."""
    signal, variance = 1.0, 0.0
    signals, variances = [], []
    for b in np.asarray(beta, np.float64).tolist():
        signal, variance = signal * math.sqrt(1.0 - b), (1.0 - b) * variance + b
        signals.append(signal)
        variances.append(variance)
    return np.array(signals), np.array(variances)


def bayes(mean: float, variance: float, alpha: float, xt: float) -> tuple[float, float]:
    """Mean and variance of x_{t−1} ~ 𝒩(mean, variance) seen through x_t = √α x_{t−1} + noise.

    Precisions add, and so do precisions times means; the noise has variance 1 − α.
    """
    if variance == 0.0:
        return mean, 0.0
    precision = 1.0 / variance + alpha / (1.0 - alpha)
    return (mean / variance + math.sqrt(alpha) * xt / (1.0 - alpha)) / precision, 1.0 / precision


def moments_on_grid(x: Floats, log_weight: Floats) -> tuple[float, float]:
    """Mean and variance of the distribution on the points ``x`` with weights exp(log_weight)."""
    weight = np.exp(log_weight - log_weight.max())
    weight = weight / weight.sum()
    mean = float(weight @ x)
    return mean, float(weight @ (x - mean) ** 2)


def slope(f: Callable[[float], float], x: float, h: float = 1e-5) -> float:
    """df/dx by a central difference of fourth order."""
    near, far = f(x + h) - f(x - h), f(x + 2 * h) - f(x - 2 * h)
    return (8.0 * near - far) / (12.0 * h)
