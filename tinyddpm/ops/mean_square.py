"""Mean square error over all elements.

value = mean (prediction − target)²       dprediction = dvalue · 2 (prediction − target) / size
"""

from __future__ import annotations

from typing import NamedTuple

from tinyddpm.arrays import Array


class MeanSquareSaved(NamedTuple):
    """The difference: one activation-sized array."""

    difference: Array


def mean_square(prediction: Array, target: Array) -> tuple[Array, MeanSquareSaved]:
    """Return the mean of (prediction − target)² as a 0-d array; the target gets no gradient."""
    difference = prediction - target
    return (difference * difference).mean(), MeanSquareSaved(difference)


def mean_square_backward(dvalue: Array | float, saved: MeanSquareSaved) -> Array:
    """Return ``dprediction``."""
    (difference,) = saved
    return difference * (dvalue * (2 / difference.size))
