"""A shorter chain through some of the steps of a longer one (Nichol & Dhariwal 2021, eq. 19).

S_0 = 0 < S_1 < … < S_K = T      the steps that are kept
β_k = 1 − ᾱ_{S_k} / ᾱ_{S_{k−1}}   so that the short chain's ᾱ_k is ᾱ_{S_k}
"""

from __future__ import annotations

import numpy as np

from tinyddpm.arrays import IntArray
from tinyddpm.diffusion.schedule import NoiseSchedule
from tinyddpm.errors import UsageError


def strided_timesteps(T: int, steps: int) -> IntArray:
    """Return S (steps + 1,): 0, then ``steps`` of the times 1 … T, evenly, from 1 to T.

    A single step is T, where sampling starts.

    Raises:
        UsageError: ``steps`` is not a whole number in 1 … T.
    """
    if not isinstance(steps, int | np.integer) or not 1 <= steps <= T:
        raise UsageError(
            f"a chain of {T} steps can be walked in a whole number of steps, 1 ... {T}",
            cause=f"steps = {steps!r}",
        )
    strided = np.rint(np.linspace(T - 1, 0, steps)[::-1]).astype(np.int64) + 1
    return np.concatenate([[0], strided])


def respaced_schedule(schedule: NoiseSchedule, timesteps: IntArray) -> NoiseSchedule:
    """Return the schedule of the chain that visits only ``timesteps`` (K + 1,), S above."""
    alpha_bar = schedule.alpha_bar[timesteps]
    return NoiseSchedule.from_beta(1.0 - alpha_bar[1:] / alpha_bar[:-1])
