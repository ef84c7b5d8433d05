"""Self-attention in few passes over the L² scores: twin of ``ops.attention``.

    p  = softmax(s),  s = (q / √D) kᵀ             y = p v
    ds = p (dp − Σ dp p),  dp = dy vᵀ             Σ_L dp p = Σ_D dy y    (Dao et al. 2022, eq. 4)
    dq = ds (k / √D)       dk = dsᵀ (q / √D)      dv = pᵀ dy

Every pass over the scores is in place; 1/√D goes to the factor that is small; the sum Σ dp p, one
number per token, is taken over the D channels of y instead of the L scores.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tinyddpm.arrays import Array
from tinyddpm.ops.attention import QkvOrder


class AttentionSaved(NamedTuple):
    """The input and the output themselves, and the N·A·L² probabilities."""

    qkv: Array  # (N, L, 3C)
    y: Array  # (N, L, C)
    p: Array  # (N, A, L, L)
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
    p = (q * _scale(q)) @ k.swapaxes(-1, -2)
    p -= p.max(axis=-1, keepdims=True)
    np.exp(p, out=p)
    p *= (1 / (p @ np.ones(tokens, p.dtype)))[..., None]
    y = np.empty((n, tokens, triple // 3), qkv.dtype)
    np.matmul(p, v, out=_heads_of(y, heads))
    return y, AttentionSaved(qkv, y, p, qkv_order)


def attention_backward(dy: Array, saved: AttentionSaved) -> Array:
    """Return ``dqkv`` (N, L, 3C) for ``dy`` (N, L, C)."""
    qkv, y, p, qkv_order = saved
    heads = p.shape[1]
    q, k, v = _split(qkv, heads, qkv_order)
    dyh = _heads_of(dy, heads)
    dqkv = np.empty_like(qkv)
    dq, dk, dv = _split(dqkv, heads, qkv_order)
    np.matmul(p.swapaxes(-1, -2), dyh, out=dv)
    ds = dyh @ v.swapaxes(-1, -2)
    ds -= _heads_of(dy * y, heads).sum(axis=-1, keepdims=True)
    ds *= p
    np.matmul(ds, k * _scale(k), out=dq)
    np.matmul(ds.swapaxes(-1, -2), q * _scale(q), out=dk)
    return dqkv


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
