"""Whether two histograms may be of one distribution: Pearson's χ² of homogeneity.

With a_k of n and b_k of m things in class k, of K classes in which there is any,

    χ² = Σ_k (√(m/n) a_k − √(n/m) b_k)² / (a_k + b_k)        ~ χ² with K − 1 degrees of freedom

for large n and m. Its upper tail is Q(k/2, χ²/2), the incomplete gamma function, which begins at
Q(½, x) = erfc √x or Q(1, x) = e⁻ˣ and goes on by Q(a + 1, x) = Q(a, x) + xᵃ e⁻ˣ/Γ(a + 1).
"""

from __future__ import annotations

import math
from typing import NamedTuple

from tinyddpm.arrays import IntArray


class Homogeneity(NamedTuple):
    """The statistic and the probability of one as large by chance."""

    chi2: float
    degrees: int
    p: float


def homogeneity(one: IntArray, other: IntArray) -> Homogeneity:
    """Compare two histograms (K,) over the same classes, neither of them empty."""
    present = one + other > 0
    a, b = one[present], other[present]
    ratio = math.sqrt(b.sum() / a.sum())
    chi2 = float(((ratio * a - b / ratio) ** 2 / (a + b)).sum())
    degrees = int(present.sum()) - 1
    return Homogeneity(chi2, degrees, chi2_tail(chi2, degrees))


def chi2_tail(chi2: float, degrees: int) -> float:
    """Return P(X ≥ chi2) for X ~ χ² with ``degrees`` degrees of freedom (0: X = 0)."""
    if degrees == 0 or chi2 <= 0:
        return 1.0
    x = chi2 / 2
    a, tail = (0.5, math.erfc(math.sqrt(x))) if degrees % 2 else (1.0, math.exp(-x))
    while a < degrees / 2:
        tail += math.exp(a * math.log(x) - x - math.lgamma(a + 1))
        a += 1
    return tail
