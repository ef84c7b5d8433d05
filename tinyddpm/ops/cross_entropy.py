"""The cross entropy of a softmax: −log of the probability of the right class, in nats.

log p  = x − max x − log Σ exp(x − max x)       (the shift cancels; it only prevents overflow)
value  = −mean_n log p[n, label_n]
dx     = dvalue (p − [k = label_n]) / N
"""

from __future__ import annotations

from typing import NamedTuple

from tinyddpm.arrays import Array, IntArray, xp_of


class CrossEntropySaved(NamedTuple):
    """One array of the logits' size, and the labels."""

    log_p: Array  # (N, K)
    labels: IntArray  # (N,)


def cross_entropy(x: Array, labels: IntArray) -> tuple[Array, CrossEntropySaved]:
    """Return the mean over the images of −log softmax(x)[label], as a 0-d array.

    ``x`` is (N, K) logits, and ``labels`` (N,) integers from 0 to K − 1, on the same device.
    """
    xp = xp_of(x)
    shifted = x - x.real.max(axis=-1, keepdims=True)
    log_p = shifted - xp.log(xp.exp(shifted).sum(axis=-1, keepdims=True))
    return -log_p[xp.arange(len(x)), labels].mean(), CrossEntropySaved(log_p, labels)


def cross_entropy_backward(dvalue: Array | float, saved: CrossEntropySaved) -> Array:
    """Return ``dx`` (N, K); the labels get no gradient."""
    log_p, labels = saved
    xp = xp_of(log_p)
    dx: Array = xp.exp(log_p)
    dx[xp.arange(len(dx)), labels] -= 1
    return dx * (dvalue / len(dx))
