"""A table of vectors, one for each label.

    y[n] = table[labels[n]]          dtable[k] = Σ_{n: labels[n] = k} dy[n]

The sum is over the one-hot matrix of the labels, so that its order is fixed.
"""

from __future__ import annotations

from typing import NamedTuple

from tinyddpm.arrays import Array, IntArray, xp_of


class EmbeddingSaved(NamedTuple):
    """The labels, one-hot."""

    one_hot: Array  # (K, N)


def embedding(table: Array, labels: IntArray) -> tuple[Array, EmbeddingSaved]:
    """Return the rows ``labels`` (N,) of ``table`` (K, E): (N, E)."""
    xp = xp_of(table)
    labels = xp.asarray(labels)
    one_hot = (labels == xp.arange(len(table))[:, None]).astype(table.dtype)
    return table[labels], EmbeddingSaved(one_hot)


def embedding_backward(dy: Array, saved: EmbeddingSaved) -> Array:
    """Return ``dtable`` (K, E) for ``dy`` (N, E)."""
    (one_hot,) = saved
    dtable: Array = (one_hot[:, :, None] * dy).sum(axis=1)
    return dtable
