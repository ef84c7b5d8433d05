"""How an axis is cut into tiles for a convolution by 3 taps, and Winograd's matrices for them
(Winograd 1980; Lavin & Gray 2016, arXiv 1509.09308, section 4.1).

F(m, 3) makes m pixels of y from m + 2 pixels d of x and 3 taps w by P = m + 2 products, where the
definition takes 3 m:

    y = Aᵀ [(G w) ⊙ (Bᵀ d)]              y[i] = Σ_a w[a] d[i + a]

It is the transpose of multiplying two polynomials through their values at p_0 … p_m and at ∞:

    Aᵀ[i, k] = p_kⁱ                                           at ∞: 1 where i = m − 1
    G[k, a]  = p_kᵃ / Π_{l≠k} (p_k − p_l)                     at ∞: 1 where a = 2
    Bᵀ[k]    = the coefficients of Π_{l≠k} (z − p_l)          at ∞: of Π_l (z − p_l)

The second point is 1, so the second column of Aᵀ is (1, …, 1): what is added to the second product
is added to every pixel. The bias is added there.

With more points there are fewer products, but the numbers that are subtracted from one another are
larger: F(7, 3) along one axis rounds about as coarsely as F(4, 3) along both, and along both it
would round too coarsely for float32.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np

from tinyddpm.arrays import Array

# Of some hundred sets of points that float32 holds exactly, those with the least rounding.
_F4 = (0, 1, -1, 0.5, -2)
_F7 = (0, 1, -1, 0.75, -0.75, 2.5, -2.5, 0.25)
_SYMMETRIC = (0, 1, -1, 2, -2)  # another F(4, 3), for ``doubled``


@dataclass(frozen=True)
class Tiling:
    """The matrices, and how tiles follow one another.

    Tilings of the same name are equal, whatever the dtype of their ``at`` and ``bt``. They are the
    keys of a weight's transforms, which depend on ``g`` alone, and that is float64 in all of them.
    """

    name: str
    step: int  # pixels of x from one tile to the next; tiles overlap by two
    at: Array = field(compare=False, repr=False)  # (pixels of y in a tile, P)
    bt: Array = field(compare=False, repr=False)  # (P, pixels of x in a tile)
    g: Array = field(compare=False, repr=False)  # (P, 3)

    @property
    def points(self) -> int:
        """P, the products of a tile."""
        return len(self.bt)

    @property
    def pixels(self) -> int:
        """The pixels of y in a tile."""
        return len(self.at)

    def tiles(self, pixels: int) -> int:
        """The number of tiles along a side of ``pixels`` in x."""
        return -(-pixels // self.step)

    def products(self, pixels: int) -> int:
        """The products that a side of ``pixels`` in x takes."""
        return self.tiles(pixels) * self.points

    def side(self, pixels: int) -> int:
        """The length in y of a side of ``pixels`` in x."""
        return pixels * self.pixels // self.step


@cache
def interpolation(points: tuple[float, ...], dtype: np.dtype[Any]) -> Tiling:
    """F(m, 3) from its values at ``points``, m + 1 of them, and at ∞."""
    p, m = np.array(points, np.float64), len(points) - 1
    others = [np.delete(p, k) for k in range(m + 1)]
    at = np.eye(m, m + 2, k=2)
    at[:, :-1] = p ** np.arange(m)[:, None]
    g = np.eye(m + 2, 3, k=1 - m)
    g[:-1] = [
        value ** np.arange(3) / np.prod(value - o) for value, o in zip(p, others, strict=True)
    ]
    bt = np.zeros((m + 2, m + 2))
    bt[:-1, :-1] = [np.poly(o)[::-1] for o in others]
    bt[-1] = np.poly(p)[::-1]
    return Tiling(f"F({m}, 3) by {points}", m, at.astype(dtype), bt.astype(dtype), g)


def four(dtype: np.dtype[Any]) -> Tiling:
    """F(4, 3)."""
    return interpolation(_F4, dtype)


def four_or_seven(pixels: int, dtype: np.dtype[Any]) -> Tiling:
    """F(4, 3), or F(7, 3) where that saves an eighth of the products along a side of ``pixels``."""
    smaller, larger = four(dtype), interpolation(_F7, dtype)
    pays = 8 * larger.products(pixels) <= 7 * smaller.products(pixels)
    return larger if pays else smaller


@cache
def doubled(dtype: np.dtype[Any]) -> Tiling:
    """F(4, 3) for a doubled side, where every pixel of x stands twice; a tile begins at every other
    pixel of x.

    Its six pixels are a b b c c d, so Bᵀ acts on (a, b, c, d) as a matrix of four columns. If the
    points lie symmetrically, one of its rows, 4b − 4b − c + c, vanishes: five products are left.
    """
    f = interpolation(_SYMMETRIC, dtype)
    pixels = np.eye(4, dtype=dtype)[[0, 1, 1, 2, 2, 3]]  # a b b c c d from (a, b, c, d)
    left = [0, 1, 3, 4, 5]  # row 2 of bt meets b − b and c − c
    return Tiling("doubled", 2, f.at[:, left], (f.bt @ pixels)[left], f.g[left])
