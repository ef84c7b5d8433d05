"""Dropout masks that depend on nothing but the seed, the step, the sample and the layer."""

from __future__ import annotations

import math
from typing import NamedTuple, Protocol

import numpy as np

from tinyddpm import rng
from tinyddpm.arrays import Array, IntArray, xp_of


class Masks(Protocol):
    """Makes the dropout masks of one forward pass."""

    def keep(self, like: Array, rate: float, site: int) -> Array:
        """Return the mask of layer ``site`` in the shape of ``like``: true with 1 − rate."""


class DropoutMasks(NamedTuple):
    """The randomness of one training step for the images ``samples`` of the global batch."""

    seed: int
    step: int
    samples: IntArray  # (N,)

    def keep(self, like: Array, rate: float, site: int) -> Array:
        """Return the mask of layer ``site`` in the shape of ``like``: true with 1 − rate."""
        words = rng.words(
            self.seed,
            "dropout",
            step=self.step,
            samples=self.samples,
            count=math.prod(like.shape[1:]),
            site=site,
        )
        kept: Array = xp_of(like).asarray(words >= np.uint32(rate * 2**32))
        return kept.reshape(like.shape)
