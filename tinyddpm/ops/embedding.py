"""A table of vectors, one for each label.

    y[n] = table[labels[n]]          dtable[k] = Σ_{n: labels[n] = k} dy[n]

written as products with the one-hot matrix of the labels, so that the sum's order is fixed.
"""

from __future__ import annotations

from typing import NamedTuple

from tinyddpm.arrays import Array, IntArray, xp_of


class EmbeddingSaved(NamedTuple):
    """The labels, one-hot."""

    one_hot: Array  # (N, K)


def embedding(table: Array, labels: IntArray) -> tuple[Array, EmbeddingSaved]:
    """Return the rows ``labels`` (N,) of ``table`` (K, E): (N, E)."""
    xp = xp_of(table)
    one_hot = (xp.asarray(labels)[:, None] == xp.arange(len(table))).astype(table.dtype)
    return one_hot @ table, EmbeddingSaved(one_hot)


def embedding_backward(dy: Array, saved: EmbeddingSaved) -> Array:
    """Return ``dtable`` (K, E) for ``dy`` (N, E)."""
    (one_hot,) = saved
    return one_hot.T @ dy
