"""One number for each image of a batch: from a table over t, or summed over its pixels."""

from __future__ import annotations

from tinyddpm.arrays import Array, IntArray, xp_of
from tinyddpm.diffusion.schedule import Table


def per_image(table: Table, t: IntArray, x: Array) -> Array:
    """Return ``table[t]`` as (N, 1, 1, 1) in the dtype and on the device of ``x`` (N, H, W, C)."""
    column = table[t].reshape(-1, *(1,) * (x.ndim - 1)).astype(x.dtype)
    coefficients: Array = xp_of(x).asarray(column)
    return coefficients


def per_image_sum(x: Array) -> Array:
    """Return the sums over all axes but the first, (N,)."""
    total: Array = x.sum(axis=tuple(range(1, x.ndim)))
    return total
