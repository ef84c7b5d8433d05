"""Which t the images of a training step get.

    uniform        p_t = 1/T
    second moment  p_t ∝ √E[L_t²], the mean over the last 10 losses at t    Nichol & Dhariwal 2021,
                   mixed with 0.001 of the uniform                         arXiv 2102.09672, eq. 18

The terms of the bound differ by orders of magnitude over t, and drawing the large ones more often
makes the gradient less noisy. Weights keep the gradient unbiased whatever p is:

    E_{t ~ p} [L_t/(T p_t)] = (1/T) Σ_t L_t

Until every t has its 10 losses p is uniform. A time is drawn as the t at which P_t = p_1 + … + p_t
passes a uniform number, of stream ``t`` of (seed, step, place in the batch).
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from tinyddpm import rng
from tinyddpm.arrays import Array, Floats, IntArray
from tinyddpm.diffusion.arguments import check_times
from tinyddpm.diffusion.schedule import Table
from tinyddpm.errors import UsageError

_HISTORY = 10
_FLOOR = 0.001


class DrawnTimes(NamedTuple):
    """Times, and the weights of their losses."""

    t: IntArray  # (N,)
    weights: Floats  # (N,) 1/(T p_t)


class TimeSampler(Protocol):
    """Draws times, learns from the losses found there, and can be stored."""

    def draw(self, seed: int, *, step: int, samples: IntArray) -> DrawnTimes:
        """Return a time for each of ``samples``, places in the batch of ``step``."""

    def update(self, t: IntArray, losses: Array) -> None:
        """Learn the losses (N,), not weighted, of the images at ``t`` (N,), in their order."""

    def state(self) -> dict[str, Array]:
        """Return what has been learnt, as arrays by name."""

    def restore(self, state: dict[str, Array]) -> None:
        """Go on from a ``state``."""


class UniformTimes:
    """t ~ U{1 … T}; it learns nothing."""

    def __init__(self, T: int) -> None:
        self.T = T

    def draw(self, seed: int, *, step: int, samples: IntArray) -> DrawnTimes:
        """Return a time for each of ``samples``, places in the batch of ``step``."""
        t = rng.integers(seed, "t", step=step, samples=samples, high=self.T)
        return DrawnTimes(t, np.ones(len(t)))

    def update(self, t: IntArray, losses: Array) -> None:
        """Do nothing."""

    def state(self) -> dict[str, Array]:
        """Return no arrays."""
        return {}

    def restore(self, state: dict[str, Array]) -> None:
        """Do nothing."""


class SecondMomentTimes:
    """t ~ p, p_t ∝ √E[L_t²] over the last 10 losses at each t, and a floor of 0.001/T.

    It is eq. 18 of Nichol & Dhariwal 2021. Until every t has its 10 losses p is uniform.

    Attributes:
        history: (T + 1, 10) the last losses at each t; the next one goes to place count mod 10.
        counts: (T + 1,) how many losses each t has had; row 0 of both is not used.
    """

    def __init__(self, T: int) -> None:
        self.T = T
        self.history: Floats = np.zeros((T + 1, _HISTORY))
        self.counts: npt.NDArray[np.int64] = np.zeros(T + 1, np.int64)

    @property
    def probabilities(self) -> Table:
        """(T + 1,) p_t; p_0 = 0."""
        p = np.zeros(self.T + 1)
        p[1:] = 1.0 / self.T
        root_mean_square = np.sqrt((self.history[1:] ** 2).mean(axis=1))
        total = root_mean_square.sum()
        if self.counts[1:].min() >= _HISTORY and total > 0.0:
            p[1:] = (1.0 - _FLOOR) * root_mean_square / total + _FLOOR / self.T
        return p

    def draw(self, seed: int, *, step: int, samples: IntArray) -> DrawnTimes:
        """Return a time for each of ``samples``, places in the batch of ``step``."""
        p = self.probabilities
        u = rng.uniform(seed, "t", step=step, samples=samples, shape=())
        t = np.searchsorted(np.cumsum(p), u, side="right")
        t = np.minimum(t, self.T)  # the sum of p may fall short of 1 by rounding
        return DrawnTimes(t, 1.0 / (self.T * p[t]))

    def update(self, t: IntArray, losses: Array) -> None:
        """Learn the losses (N,), not weighted, of the images at ``t`` (N,), in their order.

        Raises:
            UsageError: there is not one time for each loss, or one is not in 1 … T.
        """
        times = check_times(t, len(losses), first=1, last=self.T)
        for time, value in zip(times.tolist(), losses.tolist(), strict=True):
            self.history[time, self.counts[time] % _HISTORY] = value
            self.counts[time] += 1

    def state(self) -> dict[str, Array]:
        """Return copies of ``history`` and ``counts``."""
        return {"t_history": self.history.copy(), "t_counts": self.counts.copy()}

    def restore(self, state: dict[str, Array]) -> None:
        """Go on from a ``state``.

        Raises:
            UsageError: it is not of a chain of T steps.
        """
        history, counts = state.get("t_history"), state.get("t_counts")
        if history is None or counts is None or history.shape != self.history.shape:
            raise UsageError(
                f"the losses of t = 1 ... {self.T} are needed to go on drawing t by them",
                cause=f"the state holds {sorted(state) or 'nothing'}",
            )
        self.history[...], self.counts[...] = history, counts
