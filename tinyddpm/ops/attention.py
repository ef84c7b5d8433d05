"""Multi-head self-attention over L tokens (Vaswani et al. 2017, arXiv 1706.03762, eq. 1).

For each image and head, with head width D,

    p  = softmax(q kᵀ / √D)          y  = p v
    dv = pᵀ dy      dp = dy vᵀ       ds = softmax_backward(dp)
    dq = ds k / √D  dk = dsᵀ q / √D

q, k and v come in one array of 3C channels. Two orders of these channels are in print:

    "qkv first"    [q | k | v], each then cut into heads   Ho et al., Hugging Face, guided-diffusion
    "heads first"  for each head [q_h | k_h | v_h]         improved-diffusion
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

from tinyddpm.arrays import Array, xp_of
from tinyddpm.ops.softmax import SoftmaxSaved, softmax, softmax_backward

QkvOrder = Literal["qkv first", "heads first"]


class AttentionSaved(NamedTuple):
    """Views of the input, and the N·A·L² probabilities."""

    q: Array  # (N, A, L, D)
    k: Array  # (N, A, L, D)
    v: Array  # (N, A, L, D)
    p: SoftmaxSaved  # (N, A, L, L)
    qkv_order: QkvOrder


def attention(
    qkv: Array, *, heads: int, qkv_order: QkvOrder = "qkv first"
) -> tuple[Array, AttentionSaved]:
    """Attend within each image: ``qkv`` (N, L, 3C) to (N, L, C).

    y = softmax(q kᵀ / √D) v for each head, of width D (Vaswani et al. 2017, eq. 1).

    Raises:
        ValueError: ``heads`` does not divide C.
    """
    n, tokens, triple = qkv.shape
    if triple % (3 * heads):
        raise ValueError(f"heads must divide the channels: got C={triple / 3:g}, heads={heads}")
    width = triple // (3 * heads)
    if qkv_order == "qkv first":
        q, k, v = qkv.reshape(n, tokens, 3, heads, width).transpose(2, 0, 3, 1, 4)
    else:
        q, k, v = qkv.reshape(n, tokens, heads, 3, width).transpose(3, 0, 2, 1, 4)
    p, saved_p = softmax((q @ _transposed(k)) / math.sqrt(width))
    y = (p @ v).transpose(0, 2, 1, 3).reshape(n, tokens, heads * width)
    return y, AttentionSaved(q, k, v, saved_p, qkv_order)


def attention_backward(dy: Array, saved: AttentionSaved) -> Array:
    """Return ``dqkv`` (N, L, 3C) for ``dy`` (N, L, C)."""
    q, k, v, saved_p, qkv_order = saved
    n, heads, tokens, width = q.shape
    dyh = dy.reshape(n, tokens, heads, width).transpose(0, 2, 1, 3)
    dv = _transposed(saved_p.p) @ dyh
    ds = softmax_backward(dyh @ _transposed(v), saved_p) / math.sqrt(width)
    dq, dk = ds @ k, _transposed(ds) @ q
    stacked = xp_of(dy).stack([dq, dk, dv])  # (3, N, A, L, D)
    axes = (1, 3, 0, 2, 4) if qkv_order == "qkv first" else (1, 3, 2, 0, 4)
    dqkv: Array = stacked.transpose(axes).reshape(n, tokens, 3 * heads * width)
    return dqkv


def _transposed(x: Array) -> Array:
    return x.swapaxes(-1, -2)
