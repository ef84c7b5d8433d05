"""Softmax over the last axis.

p  = exp(x − max x) / Σ exp(x − max x)          (the shift cancels; it only prevents overflow)
dx = p (dp − Σ dp p)
"""

from __future__ import annotations

from typing import NamedTuple

from tinyddpm.arrays import Array, xp_of


class SoftmaxSaved(NamedTuple):
    """The probabilities themselves."""

    p: Array


def softmax(x: Array) -> tuple[Array, SoftmaxSaved]:
    """Return the softmax of ``x`` (…, K) over its last axis, (…, K)."""
    e = xp_of(x).exp(x - x.real.max(axis=-1, keepdims=True))
    p = e / e.sum(axis=-1, keepdims=True)
    return p, SoftmaxSaved(p)


def softmax_backward(dp: Array, saved: SoftmaxSaved) -> Array:
    """Return ``dx`` (…, K) for ``dp`` (…, K)."""
    (p,) = saved
    dx: Array = p * (dp - (dp * p).sum(axis=-1, keepdims=True))
    return dx
