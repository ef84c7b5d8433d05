"""Self-attention in few passes over the L² scores: twin of ``ops.attention``.

    e  = exp(s),  s = (q / √D) kᵀ          r = 1 / Σ_L e             y = r (e v)
    ds = e (g vᵀ − δ),   g = r dy          δ = Σ_D g y               (Dao et al. 2022, eq. 4)
    dq = ds (k / √D)     dk = dsᵀ (q / √D)           dv = eᵀ g

The probabilities r e are never formed: r multiplies y and dy, which have D columns and not L.

Softmax is usually written with exp(s − max s), so that exp does not overflow. By Cauchy and Schwarz
no |s| exceeds max ‖q‖ max ‖k‖ / √D; if that is at most 60, e lies within 1e±26 and needs no shift.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tinyddpm.arrays import Array
from tinyddpm.ops.attention import QkvOrder

_SAFE_SCORE = 60.0  # sums of exp(±60) lie far inside float32, whose exp overflows at 88


class AttentionSaved(NamedTuple):
    """The input and the output themselves, and the N·A·L² exponentials."""

    qkv: Array  # (N, L, 3C)
    y: Array  # (N, L, C)
    e: Array  # (N, A, L, L)
    r: Array  # (N, A, L, 1)
    qkv_order: QkvOrder


def attention(
    qkv: Array, *, heads: int, qkv_order: QkvOrder = "qkv first"
) -> tuple[Array, AttentionSaved]:
    """Attend within each image: ``qkv`` (N, L, 3C) to (N, L, C).

    Raises:
        ValueError: ``heads`` does not divide C.
    """
    n, tokens, triple = qkv.shape
    if triple % (3 * heads):
        raise ValueError(f"heads must divide the channels: got C={triple / 3:g}, heads={heads}")
    q, k, v = _split(qkv, heads, qkv_order)
    q = q * _scale(q)
    e = q @ k.swapaxes(-1, -2)
    if _longest(q) * _longest(k) > _SAFE_SCORE:
        e -= e.max(axis=-1, keepdims=True)
    np.exp(e, out=e)
    r = (1 / (e @ np.ones(tokens, e.dtype)))[..., None]
    y = np.empty((n, tokens, triple // 3), qkv.dtype)
    np.multiply(e @ v, r, out=_heads_of(y, heads))
    return y, AttentionSaved(qkv, y, e, r, qkv_order)


def attention_backward(dy: Array, saved: AttentionSaved) -> Array:
    """Return ``dqkv`` (N, L, 3C) for ``dy`` (N, L, C)."""
    qkv, y, e, r, qkv_order = saved
    heads = e.shape[1]
    q, k, v = _split(qkv, heads, qkv_order)
    g = _heads_of(dy, heads) * r
    dqkv = np.empty_like(qkv)
    dq, dk, dv = _split(dqkv, heads, qkv_order)
    np.matmul(e.swapaxes(-1, -2), g, out=dv)
    ds = g @ v.swapaxes(-1, -2)
    ds -= (g * _heads_of(y, heads)).sum(axis=-1, keepdims=True)
    ds *= e
    np.matmul(ds, k * _scale(k), out=dq)
    np.matmul(ds.swapaxes(-1, -2), q * _scale(q), out=dk)
    return dqkv


def _longest(rows: Array) -> float:
    """The largest Euclidean norm of the vectors along the last axis."""
    return float(np.sqrt(np.einsum("...d,...d->...", rows, rows).max()))


def _split(qkv: Array, heads: int, qkv_order: QkvOrder) -> Array:
    """Views of q, k and v, stacked: (3, N, A, L, D)."""
    n, tokens, triple = qkv.shape
    width = triple // (3 * heads)
    if qkv_order == "qkv first":
        return qkv.reshape(n, tokens, 3, heads, width).transpose(2, 0, 3, 1, 4)
    return qkv.reshape(n, tokens, heads, 3, width).transpose(3, 0, 2, 1, 4)


def _heads_of(y: Array, heads: int) -> Array:
    """A view (N, A, L, D) of ``y`` (N, L, C)."""
    n, tokens, channels = y.shape
    return y.reshape(n, tokens, heads, channels // heads).transpose(0, 2, 1, 3)


def _scale(q: Array) -> float:
    return float(q.shape[-1] ** -0.5)
