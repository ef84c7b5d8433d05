"""What a convolution leaves to a norm alone, and what the norm's backward gives back for it.

Nobody else reads the two, so they are kept as the next kernel wants them, which saves the pass of
packing. In bf16 the image is bf16, too. The gradient is an operand of the convolution's backward,
and comes with the sums that the gradient of the bias is made of.
"""

from __future__ import annotations

from typing import NamedTuple

from tinyddpm.arrays import Array


class ToNorm(NamedTuple):
    """The result of a convolution whose weight was prepared for a norm."""

    values: Array  # (N, H, W, C): float32, or the bits of bf16


class FromNorm(NamedTuple):
    """The gradient of it."""

    values: Array  # (N, H, W, C): an operand, or float32 where its channels are to be padded
    sums: Array  # (slabs, N, C): over the pixels of each slab of an image
