"""What an identity is, where it is tried, and what came of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from tinyddpm import rng
from tinyddpm.arrays import Array
from tinyddpm.diffusion.gaussian import Variance
from tinyddpm.diffusion.schedule import NoiseSchedule
from tinyddpm.identities.statistics import Comparison

FIXED_VARIANCES: tuple[Variance, ...] = ("beta", "beta_tilde")


@dataclass(frozen=True)
class Setting:
    """Where an identity is tried: a short chain, small images, and the seed of all that is drawn.

    Few steps make each of them count: an error in one is not hidden among a thousand.

    Attributes:
        seed: in [0, 2³²).
        samples: how many images are drawn.
        beta: β_1 … β_T, each in (0, 1), T ≥ 4.
        shape: (H, W, C) of an image.
    """

    seed: int
    samples: int
    beta: tuple[float, ...]
    shape: tuple[int, int, int]

    @classmethod
    def drawn(cls, seed: int, samples: int) -> Setting:
        """Return the setting of ``seed``: T = 6 … 10 steps, log β even in (0.02, 0.5), 2 × 2."""
        u = rng.uniform(seed, "init", step=1, samples=np.arange(11), shape=())
        T = 6 + int(5 * u[0])
        beta = tuple(0.02 * 25.0**exponent for exponent in u[1 : T + 1].tolist())
        return cls(seed, samples, beta, (2, 2, 1))

    @property
    def schedule(self) -> NoiseSchedule:
        """The schedule of β."""
        return NoiseSchedule.from_beta(self.beta)

    def normal(self, step: int) -> Array:
        """Return standard normals (samples, H, W, C), float64: others for each ``step``."""
        places = np.arange(self.samples)
        return rng.normal(
            self.seed, "noise", step=step, samples=places, shape=self.shape, dtype=np.float64
        )

    def numbers(self, count: int, low: float, high: float) -> Array:
        """Return ``count`` numbers between ``low`` and ``high``: the parameters of an identity."""
        u = rng.uniform(self.seed, "init", step=2, samples=np.arange(count), shape=())
        return low + (high - low) * u

    def levels(self) -> Array:
        """Return one image (1, H, W, C) of bytes scaled to [−1, 1]."""
        u = rng.uniform(self.seed, "init", step=3, samples=np.arange(1), shape=self.shape)
        return np.floor(256 * u) / 127.5 - 1


@dataclass(frozen=True)
class Outcome:
    """What came of an identity: its least likely comparison.

    Attributes:
        kind: the symbol of the statistic.
        statistic: its value; for an exact identity the largest relative error.
        log_p: an upper bound on the logarithm of the p-value of the whole identity: that of the
            comparison times the number of comparisons, at most 0.
        tolerance: of an exact identity; otherwise None.
    """

    kind: str
    statistic: float
    log_p: float
    tolerance: float | None

    @property
    def p_value(self) -> float:
        """The bound itself; 0 where it is less than any float."""
        return math.exp(self.log_p)

    def holds(self, alpha: float) -> bool:
        """Whether the bound on the p-value is at least ``alpha``; an exact identity's is 0 or 1."""
        return self.log_p >= math.log(alpha)


@dataclass(frozen=True)
class Identity:
    """Two ways to one number, or to one distribution.

    Attributes:
        number: its place in the list, a Roman numeral.
        name: in a few words.
        equation: what is claimed.
        exercises: the functions of the package that must be right for it to hold.
        compare: makes the comparisons in a setting.
    """

    number: str
    name: str
    equation: str
    exercises: tuple[Callable[..., object], ...]
    compare: Callable[[Setting], Iterable[Comparison]]

    def __call__(self, setting: Setting) -> Outcome:
        """Try the identity in ``setting``."""
        comparisons = list(self.compare(setting))
        worst = min(comparisons, key=_rank)
        log_p = -math.inf if math.isnan(worst.log_p) else worst.log_p
        together = min(log_p + math.log(len(comparisons)), 0.0)
        return Outcome(worst.kind, worst.statistic, together, worst.tolerance)


def _rank(comparison: Comparison) -> tuple[float, float]:
    """Least likely first; what is exact comes last if it holds, and then the largest error first.

    A NaN is the least likely of all.
    """
    if math.isnan(comparison.log_p):
        return -math.inf, 0.0
    if comparison.tolerance is None or comparison.log_p < 0.0:
        return comparison.log_p, 0.0
    return math.inf, -comparison.statistic / comparison.tolerance


def identity(
    number: str, name: str, equation: str, *exercises: Callable[..., object]
) -> Callable[[Callable[[Setting], Iterable[Comparison]]], Identity]:
    """Make an ``Identity`` of the function that compares."""

    def of(compare: Callable[[Setting], Iterable[Comparison]]) -> Identity:
        return Identity(number, name, equation, exercises, compare)

    return of
