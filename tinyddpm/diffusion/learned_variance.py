"""A learned variance of the way back (Nichol & Dhariwal 2021, arXiv 2102.09672, eq. 15).

    log σ_t² = f log β_t + (1 − f) log β̃_t,   f = (v + 1)/2
    dv       = ½ (log β_t − log β̃_t) d log σ²

Besides its prediction, the network gives v, a number for each pixel and channel: v = −1 means β̃_t,
v = 1 means β_t. Nothing holds v in [−1, 1]. At t = 1, where β̃_1 = 0, the lower end is β̃_2.
"""

from __future__ import annotations

from typing import NamedTuple

from tinyddpm.arrays import Array


class LogVarianceSaved(NamedTuple):
    """The two ends, (N, 1, 1, 1) each."""

    lower: Array
    upper: Array


def learned_log_variance(v: Array, lower: Array, upper: Array) -> tuple[Array, LogVarianceSaved]:
    """Return log σ² (N, H, W, C) from ``v`` (N, H, W, C), log β̃ and log β (N, 1, 1, 1).

    log σ_t² = f log β_t + (1 − f) log β̃_t, f = (v + 1)/2 (Nichol & Dhariwal 2021, eq. 15).
    """
    fraction = 0.5 * (v + 1)
    # f a + (1 − f) b, not b + f (a − b): at v = ±1 it is either end to the bit.
    return fraction * upper + (1 - fraction) * lower, LogVarianceSaved(lower, upper)


def learned_log_variance_backward(dlog_variance: Array, saved: LogVarianceSaved) -> Array:
    """Return ``dv`` (N, H, W, C) for ``dlog_variance`` (N, H, W, C)."""
    lower, upper = saved
    return dlog_variance * (0.5 * (upper - lower))
