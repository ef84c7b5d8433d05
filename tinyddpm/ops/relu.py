"""The rectified linear unit (Nair & Hinton 2010).

y  = max(x, 0)
dx = dy [x > 0]                 (at x = 0, where there is no derivative, 0)
"""

from __future__ import annotations

from typing import NamedTuple

from tinyddpm.arrays import Array


class ReluSaved(NamedTuple):
    """A byte for each element."""

    positive: Array  # whether x > 0


def relu(x: Array) -> tuple[Array, ReluSaved]:
    """Return max(x, 0), elementwise, for ``x`` of any shape."""
    positive: Array = x.real > 0
    return x * positive, ReluSaved(positive)


def relu_backward(dy: Array, saved: ReluSaved) -> Array:
    """Return ``dx`` for ``dy``, both of the shape of x."""
    dx: Array = dy * saved.positive
    return dx
