"""The decoder's floor: what L_0 cannot fall below, whatever the network; and a check against it.

At t = 1 a clipped mean lies in [−1, 1] and σ_1 is given. So every pixel costs at least the bits
that it costs when the mean hits it (see ``diffusion.decoder.decoder_floor``). The floor depends on
the schedule, through σ_1² = β̃_2, and on the histogram of the images. An L_0 below it does not mean
a good model, but a wrong program.

A learned σ_1² should lie between β̃_2 and β_1, but nothing holds it there; for it the floor at β̃_2
is no limit, only a landmark.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from tinyddpm.data.dataset import ByteArray
from tinyddpm.diffusion.decoder import decoder_floor
from tinyddpm.diffusion.gaussian import GaussianDiffusion
from tinyddpm.errors import FailedCheckError

_ROUNDING = 1e-5  # of float32 sums over the pixels, relative,
_LEAST = 1e-7  # and of bits that are too few for float32, absolute


class DecoderLimit(NamedTuple):
    """The least L_0 of clipped means."""

    bits_per_dim: float
    std: float  # σ_1
    strict: bool  # False where σ_1 is learned


def decoder_limit(diffusion: GaussianDiffusion, images: ByteArray) -> DecoderLimit:
    """Return the floor of L_0 for ``images``, bytes of any shape."""
    std = math.exp(0.5 * diffusion.log_variance_ends[0][1])
    histogram = np.bincount(images.ravel(), minlength=256)
    strict = diffusion.variance != "learned"
    return DecoderLimit(decoder_floor(histogram, std), std, strict)


def check_limit(reconstruction: float, limit: DecoderLimit) -> None:
    """Raise if ``reconstruction``, the L_0 of clipped means in bits/dim, is below the floor.

    Raises:
        FailedCheckError: it is, and the variance is fixed.
    """
    if limit.strict and reconstruction < limit.bits_per_dim * (1.0 - _ROUNDING) - _LEAST:
        raise FailedCheckError(
            "L_0 is below what any network can reach: this evaluation is wrong",
            cause=f"{reconstruction:.6f} bits/dim, and the decoder's floor for these images and "
            f"sigma_1 = {limit.std:.5f} is {limit.bits_per_dim:.6f}",
            remedy="report this as a bug; no result is given",
        )
