"""Statistical tests that may run every day: the law of each statistic, and what it may cost.

Each comparison returns an upper bound on the logarithm of its two-sided p-value. All bounds are
exact tails or proved inequalities, none an asymptotic approximation, so that they hold far out:

    z_test          Z = (value − mean)/std ~ 𝒩(0, 1)                           exact, by log Φ
    chi2_test       X ~ χ²_k, r = X/k:  P(beyond r) ≤ exp(−½ k (r − 1 − ln r))        Chernoff
    ks_test         D = sup |F_n − F|:  P(D > d) ≤ 2 exp(−2 n d²)    Dvoretzky, Kiefer, Wolfowitz;
                                                                     the constant is Massart's
    subgamma_test   mean of n, variance v, scale c:  P(beyond e) ≤ exp(−½ n e²/(v + c e))
                                                                                     Bernstein

A run of the suite raises a false alarm with probability at most 1e-6 over all of its examples: each
comparison has an equal share of that (Bonferroni), and a run that made more of them than there are
shares would fail. Draws are a function of the drawn parameters (``generator``), so that a failure
can be had again.

``mutated`` rewrites the source of a module with a bug, to show that a comparison would see it.
"""

import hashlib
import inspect
import itertools
import math
import types

import numpy as np

from tinyddpm.ops import normal

FALSE_ALARMS_PER_RUN = 1e-6
COMPARISONS_PER_RUN = 20_000
LOG_ALPHA = math.log(FALSE_ALARMS_PER_RUN / COMPARISONS_PER_RUN)

_comparisons = itertools.count(1)


def seed_of(*parameters) -> int:
    """A seed in [0, 2³²) hashed from ``parameters``, each with an exact repr."""
    return int.from_bytes(hashlib.sha256(repr(parameters).encode()).digest()[:4], "big")


def generator(*parameters) -> np.random.Generator:
    """A generator seeded by a hash of ``parameters``."""
    return np.random.default_rng(seed_of(*parameters))


def consistent(*log_p: float) -> bool:
    """Whether no comparison is rejected at its share of the false alarms."""
    for value in log_p:
        assert not math.isnan(value)
        assert next(_comparisons) <= COMPARISONS_PER_RUN, "more comparisons than the run has shares"
    return min(log_p) >= LOG_ALPHA


def z_test(value: float, mean: float, std: float) -> float:
    """Null: ``value`` ~ 𝒩(mean, std²)."""
    z = np.abs(np.float64((value - mean) / std))
    return math.log(2) + float(normal.log_cdf(-z))


def chi2_test(statistic: float, degrees: int) -> float:
    """Null: ``statistic`` ~ χ² with ``degrees`` degrees of freedom."""
    ratio = statistic / degrees
    return math.log(2) - degrees / 2 * (ratio - 1 - math.log(ratio))


def ks_test(sample: np.ndarray, cdf) -> float:
    """Null: the elements of ``sample`` are independent draws from the distribution of ``cdf``."""
    n = sample.size
    expected = cdf(np.sort(sample.ravel()))
    steps = np.arange(n + 1) / n
    distance = max(np.max(steps[1:] - expected), np.max(expected - steps[:-1]))
    return math.log(2) - 2 * n * distance**2


def subgamma_test(sample: np.ndarray, mean: float, variance: float, scale: float) -> float:
    """Null: independent draws with this ``mean``, whose centred logarithmic moment generating
    function is at most ½ θ² variance/(1 − scale |θ|).
    """
    error = abs(float(sample.mean()) - mean)
    return math.log(2) - sample.size / 2 * error**2 / (variance + scale * error)


def gaussian_test(sample: np.ndarray, mean: float, variance: float) -> tuple[float, ...]:
    """Null: independent draws from 𝒩(mean, variance). Mean, variance and shape, one bound each."""
    n = sample.size
    standard = (sample.ravel().astype(np.float64) - mean) / math.sqrt(variance)
    return (
        z_test(float(standard.mean()), 0.0, n**-0.5),
        chi2_test(float(standard @ standard), n),
        ks_test(standard, normal.cdf),
    )


def regression_test(
    y: np.ndarray, regressors: list[np.ndarray], coefficients: list[float], variance: float
) -> tuple[float, ...]:
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


def mutated(module: types.ModuleType, right: str, wrong: str) -> types.ModuleType:
    """Return a copy of ``module`` in which ``wrong`` stands for the one occurrence of ``right``."""
    source = inspect.getsource(module)
    assert source.count(right) == 1, f"{right!r} occurs {source.count(right)} times"
    copy = types.ModuleType(module.__name__)
    exec(
        compile(source.replace(right, wrong), f"<mutant of {module.__name__}>", "exec"), vars(copy)
    )
    return copy
