"""A shorter chain through some of the steps of a longer one (Nichol & Dhariwal 2021, eq. 19).

S_0 = 0 < S_1 < … < S_K = T      the steps that are kept
β_k = 1 − ᾱ_{S_k} / ᾱ_{S_{k−1}}   so that the short chain's ᾱ_k is ᾱ_{S_k}
    = 1 − exp Σ log(1 − β_t),    t from S_{k−1} + 1 to S_k: nothing cancels at small β
"""

from __future__ import annotations

import numpy as np

from tinyddpm.arrays import IntArray
from tinyddpm.diffusion.schedule import NoiseSchedule
from tinyddpm.errors import UsageError


def strided_timesteps(T: int, steps: int) -> IntArray:
    """Return S (steps + 1,): 0, then ``steps`` of the times 1 … T, evenly spaced from 1 to T.

    A single step goes from T, where sampling starts, to 0.

    Raises:
        UsageError: ``steps`` is not a whole number in 1 … T.
    """
    if not isinstance(steps, int | np.integer) or not 1 <= steps <= T:
        raise UsageError(
            f"a chain of {T} steps can be walked in a whole number of steps, 1 ... {T}",
            cause=f"steps = {steps!r}",
        )
    if steps == 1:
        return np.array([0, T])
    # Strides are added up one by one, as in the published code: where a time ends in .5, the error
    # of these sums decides whether it is rounded up or down.
    strides = np.full(steps - 1, (T - 1) / (steps - 1))
    strided = np.rint(np.cumsum([0.0, *strides])).astype(np.int64) + 1
    return np.concatenate([[0], strided])


def check_timesteps(timesteps: IntArray, T: int) -> None:
    """Raise unless ``timesteps`` can name, for each t = 0 … T of a chain, its t in a longer one.

    Raises:
        UsageError: they are not T + 1 whole numbers that rise from 0.
    """
    whole = timesteps.shape == (T + 1,) and timesteps.dtype.kind in "iu"
    if not whole or timesteps[0] or (timesteps[1:] <= timesteps[:-1]).any():
        raise UsageError(
            f"timesteps must name the original t of 0 ... {T}: whole numbers that rise from 0",
            cause=f"got {timesteps.dtype} of shape {timesteps.shape}: {timesteps}",
        )


def respaced_schedule(schedule: NoiseSchedule, timesteps: IntArray) -> NoiseSchedule:
    """Return the schedule of the chain that visits only ``timesteps`` (K + 1,), S above."""
    # log α_t has index t − 1, so the first of a stride, that of S_{k−1} + 1, has index S_{k−1}.
    log_alpha = np.log1p(-schedule.beta[1 : timesteps[-1] + 1])
    return NoiseSchedule.from_beta(-np.expm1(np.add.reduceat(log_alpha, timesteps[:-1])))
