"""What passes between a convolution and the norm behind it, where nobody else reads it.

Where products are of bf16, the convolution writes its result in bf16, too: half the bytes. The
norm's backward writes the gradient as the operand that the convolution's backward multiplies, with
the sums that the gradient of the bias is made of, which saves the pass that packs and sums it.
"""

from __future__ import annotations

from typing import NamedTuple

from tinyddpm.arrays import Array


class ToNorm(NamedTuple):
    """The result of a convolution whose weight was prepared for a norm."""

    values: Array  # (N, H, W, C): float32, or the bits of bf16


class FromNorm(NamedTuple):
    """The gradient of a ``ToNorm``, from the norm's backward."""

    values: Array  # (N, H, W, C): an operand, or float32 where its channels are to be padded
    sums: Array  # (slabs, N, C): over the pixels of each slab of an image
