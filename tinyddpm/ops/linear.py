"""A dense layer over the last axis.

y = x weight + bias + residual
dx = dy weightᵀ + dskip        dweight = Σ xᵀ dy        dbias = Σ dy        (Σ over all rows)

If x is used elsewhere too, dskip is the gradient that comes back from there.
"""

from __future__ import annotations

from typing import NamedTuple

from tinyddpm.arrays import Array


class LinearSaved(NamedTuple):
    """The input itself; nothing is copied."""

    x: Array  # (…, C_in)
    weight: Array  # (C_in, C_out)


def linear(
    x: Array, weight: Array, bias: Array, *, residual: Array | None = None
) -> tuple[Array, LinearSaved]:
    """Map ``x`` (…, C_in) to (…, C_out), and add ``residual``.

    The gradient of a residual (…, C_out) is ``dy``; that of a residual (C_out,) is the bias's.
    """
    y, saved = x @ weight + bias, LinearSaved(x, weight)
    return y if residual is None else y + residual, saved


def linear_backward(
    dy: Array, saved: LinearSaved, dskip: Array | None = None
) -> tuple[Array, Array, Array]:
    """Return ``(dx, dweight, dbias)`` for ``dy`` (…, C_out); ``dskip`` is added to dx."""
    x, weight = saved
    rows = dy.reshape(-1, dy.shape[-1])
    dx = dy @ weight.T
    if dskip is not None:
        dx = dx + dskip
    dweight = x.reshape(-1, x.shape[-1]).T @ rows
    return dx, dweight, rows.sum(axis=0)
