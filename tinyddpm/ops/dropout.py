"""Inverted dropout (Srivastava et al. 2014) with the mask given, so that it is a function.

y = x keep / (1 − rate)          dx = dy keep / (1 − rate)
"""

from __future__ import annotations

from typing import NamedTuple

from tinyddpm.arrays import Array


class DropoutSaved(NamedTuple):
    """The mask: one byte an element."""

    keep: Array  # bool
    rate: float


def dropout(x: Array, keep: Array, *, rate: float) -> tuple[Array, DropoutSaved]:
    """Zero ``x`` (…) where ``keep`` (…, bool) is false, and scale the rest by 1/(1 − rate)."""
    return x * keep * (1 / (1 - rate)), DropoutSaved(keep, rate)


def dropout_backward(dy: Array, saved: DropoutSaved) -> Array:
    """Return ``dx`` for ``dy``, both of the shape of x."""
    keep, rate = saved
    return dy * keep * (1 / (1 - rate))
