"""Joining a skip connection to the decoder's features, along the channels.

y = [a | b]          da, db = dy split where a ends
"""

from __future__ import annotations

from typing import NamedTuple

from tinyddpm.arrays import Array, xp_of


class ConcatSaved(NamedTuple):
    """Where the first part ends."""

    channels: int


def concat(a: Array, b: Array) -> tuple[Array, ConcatSaved]:
    """Join ``a`` (N, H, W, C) and ``b`` (N, H, W, D) to (N, H, W, C + D)."""
    return xp_of(a).concatenate([a, b], axis=-1), ConcatSaved(a.shape[-1])


def concat_backward(dy: Array, saved: ConcatSaved) -> tuple[Array, Array]:
    """Return ``(da, db)``, views of ``dy``."""
    (channels,) = saved
    return dy[..., :channels], dy[..., channels:]
