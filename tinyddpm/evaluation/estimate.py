"""A mean over images and how far it may be off.

    mean ± s/√N,   s² = Σ (x_i − mean)²/(N − 1)         95 % interval: mean ± 1.96 s/√N

The x_i of different images are independent. If two models are measured on the same images with the
same random numbers, the differences x_i − y_i are such numbers again. Their mean has a smaller
error than either mean, because what x_i and y_i have in common cancels.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from tinyddpm.arrays import Floats
from tinyddpm.errors import UsageError

_NORMAL_975 = 1.959963984540054  # Φ(1.96) = 0.975


class Estimate(NamedTuple):
    """A mean and its standard error, in one unit."""

    mean: float
    standard_error: float

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % confidence interval."""
        reach = _NORMAL_975 * self.standard_error
        return self.mean - reach, self.mean + reach

    def scaled(self, factor: float) -> Estimate:
        """Return it in another unit; ``factor`` of the new unit make one of the old."""
        return Estimate(factor * self.mean, factor * self.standard_error)


def estimate(values: Floats) -> Estimate:
    """Return the mean of ``values`` (N,), one for each image.

    Raises:
        UsageError: there are fewer than two, which tell nothing of the error.
    """
    if len(values) < 2:
        raise UsageError(
            "a standard error needs at least 2 images", cause=f"there are {len(values)}"
        )
    return Estimate(float(values.mean()), float(values.std(ddof=1)) / math.sqrt(len(values)))
