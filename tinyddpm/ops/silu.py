"""SiLU, or swish (Hendrycks & Gimpel 2016, arXiv 1606.08415; Ramachandran et al. 2017, 1710.05941).

s  = sigmoid(x) = ½ (1 + tanh ½x)        never overflows, needs no branch
y  = x s
dx = dy s (1 + x (1 − s))
"""

from __future__ import annotations

from typing import NamedTuple

from tinyddpm.arrays import Array, xp_of


class SiluSaved(NamedTuple):
    """The input itself; the sigmoid is computed again."""

    x: Array


def silu(x: Array) -> tuple[Array, SiluSaved]:
    """Return x · sigmoid(x), elementwise, for ``x`` of any shape (Ramachandran et al. 2017)."""
    return x * _sigmoid(x), SiluSaved(x)


def silu_backward(dy: Array, saved: SiluSaved) -> Array:
    """Return ``dx`` for ``dy``, both of the shape of x."""
    (x,) = saved
    s = _sigmoid(x)
    dx: Array = dy * s * (1 + x * (1 - s))
    return dx


def _sigmoid(x: Array) -> Array:
    s: Array = 0.5 * (1 + xp_of(x).tanh(0.5 * x))
    return s
