"""How far each image is from the nearest training image: a model that copies is too near.

‖x − y‖² = ‖x‖² − 2 x·y + ‖y‖², with pixels in [0, 1], takes one matrix product for many images x
and y. In float32 the terms cancel down to errors of about 1e-5 of ‖x‖², which is good enough to
choose the nearest y; its distance is then computed again, from the difference of the bytes.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tinyddpm.arrays import Array, Floats, IntArray
from tinyddpm.data.dataset import ByteArray
from tinyddpm.evaluation.lenet import pixels
from tinyddpm.parallel import Workers, shard_slices

_QUERIES, _CANDIDATES = 256, 4096  # images in one matrix product


class Neighbours(NamedTuple):
    """The nearest of the candidates to each query."""

    nearest: IntArray  # (N,) its number
    distance: Floats  # (N,) L2, pixels in [0, 1]


def nearest(queries: ByteArray, candidates: ByteArray, workers: Workers) -> Neighbours:
    """Return the nearest of ``candidates`` (M, H, W, C) to each of ``queries`` (N, H, W, C)."""
    known = candidates.reshape(len(candidates), -1)
    asked = queries.reshape(len(queries), -1)
    blocks = [pixels(known[part]) for part in shard_slices(len(known), _CANDIDATES)]
    squares = [np.square(block).sum(axis=1) for block in blocks]
    slices = shard_slices(len(asked), _QUERIES)
    found: list[IntArray] = []

    def compute(_: int, index: int) -> IntArray:
        return _nearest_in(pixels(asked[slices[index]]), blocks, squares)

    workers.run(len(slices), compute, lambda _, index: found.append(index))
    chosen = np.concatenate(found)
    difference = asked.astype(np.int32) - known[chosen]
    distance = np.sqrt(np.square(difference).sum(axis=1, dtype=np.int64)) / 255
    return Neighbours(chosen, distance)


def _nearest_in(queries: Array, blocks: list[Array], squares: list[Array]) -> IntArray:
    """The number of the candidate that makes ‖y‖² − 2 x·y smallest; ‖x‖² makes no difference."""
    least = np.full(len(queries), np.inf, np.float32)
    index = np.zeros(len(queries), np.int64)
    start = 0
    for block, square in zip(blocks, squares, strict=True):
        score = square - 2 * (queries @ block.T)
        best = score.argmin(axis=1)
        value = score[np.arange(len(queries)), best]
        index = np.where(value < least, start + best, index)
        least = np.minimum(value, least)
        start += len(block)
    return index
