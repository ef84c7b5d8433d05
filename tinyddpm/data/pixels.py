"""Pixels to [−1, 1] and back (Ho et al. 2020, arXiv:2006.11239, section 3.3).

    x     = byte / 127.5 − 1
    byte  = round(127.5 (x + 1)), x clipped to [−1, 1]

Rounding is what makes the second line the inverse of the first. A widely copied sampling script
converts with ``((x + 1) * 127.5).clamp(0, 255).to(uint8)``, which truncates: in float32, 63 of the
256 grey levels then come back one too low, and samples are darker by half a level on average.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from tinyddpm.arrays import Array, xp_of
from tinyddpm.data.dataset import ByteArray
from tinyddpm.errors import NonFiniteError, UsageError


def from_bytes(images: ByteArray, dtype: npt.DTypeLike = np.float32) -> Array:
    """Return ``images``, bytes of any shape, as numbers in [−1, 1] of type ``dtype``.

    Raises:
        UsageError: they are no bytes, but perhaps numbers in [−1, 1] or [0, 1].
    """
    if images.dtype != np.uint8:
        raise UsageError(
            "images to be scaled to [-1, 1] must be bytes",
            cause=f"their dtype is {images.dtype}",
            remedy="tinyddpm.data.pixels.to_bytes for numbers in [-1, 1]",
        )
    x: npt.NDArray[Any] = images.astype(dtype) / 127.5 - 1
    return x


def to_bytes(x: Array) -> ByteArray:
    """Return ``x``, of any shape, clipped to [−1, 1] and rounded to the nearest of 256 bytes.

    Raises:
        NonFiniteError: a pixel is NaN.
    """
    xp = xp_of(x)
    if xp.isnan(x).any():
        raise NonFiniteError(
            "an image holds NaN and cannot be turned into bytes",
            remedy="use an earlier checkpoint: this network no longer computes numbers",
        )
    levels: npt.NDArray[Any] = xp.rint((x.clip(-1, 1) + 1) * 127.5)
    return levels.astype(np.uint8)
