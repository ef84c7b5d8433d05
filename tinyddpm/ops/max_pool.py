"""Max pooling over squares of two by two.

y[i, j]           = max_{a, b ∈ {0, 1}} x[2i + a, 2j + b]
dx[2i + a, 2j + b] = dy[i, j] where x[2i + a, 2j + b] is the first of its square to be the maximum,
                     in the order (0, 0), (0, 1), (1, 0), (1, 1), and 0 elsewhere
"""

from __future__ import annotations

from typing import NamedTuple

from tinyddpm.arrays import Array, xp_of

_TAPS = ((0, 0), (0, 1), (1, 0), (1, 1))


class MaxPoolSaved(NamedTuple):
    """The input and the output themselves; nothing is copied."""

    x: Array  # (N, 2H, 2W, C)
    y: Array  # (N, H, W, C)


def max_pool(x: Array) -> tuple[Array, MaxPoolSaved]:
    """Return the largest value in every 2×2 square of ``x`` (N, 2H, 2W, C).

    Raises:
        ValueError: a side of the images is odd.
    """
    if x.shape[1] % 2 or x.shape[2] % 2:
        raise ValueError(f"both sides of the images must be even: got {x.shape[1:3]}")
    xp, (first, *others) = xp_of(x), _TAPS
    y: Array = _tap(x, *first)
    for tap in others:
        y = xp.maximum(y, _tap(x, *tap))  # complex numbers are compared by their real parts first
    return y, MaxPoolSaved(x, y)


def max_pool_backward(dy: Array, saved: MaxPoolSaved) -> Array:
    """Return ``dx`` (N, 2H, 2W, C) for ``dy`` (N, H, W, C)."""
    x, y = saved
    xp = xp_of(x)
    dx: Array = xp.empty(x.shape, dy.dtype)
    open_ = xp.ones(y.shape, bool)  # whether the maximum is yet to be found
    for a, b in _TAPS:
        found = open_ & (_tap(x, a, b) == y)
        dx[:, a::2, b::2] = dy * found
        open_ &= ~found
    return dx


def _tap(x: Array, a: int, b: int) -> Array:
    """Pixel (a, b) of every square: a view."""
    return x[:, a::2, b::2]
