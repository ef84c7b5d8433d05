"""Floating-point operations of a network's products, counted from its shape.

A multiplication and an addition are two operations. Convolutions are counted as the definition
computes them, however they are computed, so that speeds can be compared:

    convolution    2 · kh kw C_in C_out · H_out W_out     of the doubled image behind an upsampling
    linear         2 · C_in C_out                        per row
    attention      2 · L² C for q kᵀ, and as much for p v

Backward is twice the forward: each product y = x w turns into two of its size, for dx and for dw.
Everything that is not a product (norms, SiLU, sums) is left out: it takes time, but few operations.
"""

from __future__ import annotations

from typing import NamedTuple

from tinyddpm.nn.config import UNetConfig

BACKWARD = 2  # in forwards


class Products(NamedTuple):
    """Operations of the forward of one image, by the entry of the kernels table."""

    conv2d: float
    upsample_conv2d: float
    linear: float
    attention: float

    @property
    def total(self) -> float:
        """All of them."""
        return sum(self)


def forward_products(config: UNetConfig) -> Products:
    """Count the products of the forward of one image."""
    count = _Count(config)
    skips = count.encoder()
    count.stage(count.width, attention=True)
    count.stage(count.width, attention=False)
    count.decoder(skips)
    count.conv2d += count.conv(config.channels[0], config.out_channels)
    return Products(count.conv2d, count.upsample_conv2d, count.linear, count.attention)


class _Count:
    """Walks through the network, keeping the present width and resolution."""

    def __init__(self, config: UNetConfig) -> None:
        self.config = config
        self.width, self.size = config.channels[0], config.image_size
        self.emb = config.embedding_width
        self.conv2d = self.upsample_conv2d = self.attention = 0.0
        self.linear = 2.0 * (config.channels[0] * self.emb + self.emb * self.emb)

    def encoder(self) -> list[int]:
        """The way down; returns the width of every skip."""
        self.conv2d += self.conv(self.config.in_channels, self.width)
        skips = [self.width]
        for level, width in enumerate(self.config.channels):
            for _ in range(self.config.blocks):
                self.stage(width, attention=self.size in self.config.attention_at)
                skips.append(width)
            if level < len(self.config.channels) - 1:
                self.size //= 2
                self.conv2d += self.conv(width, width)
                skips.append(width)
        return skips

    def decoder(self, skips: list[int]) -> None:
        """The way up, which takes the skips in reverse."""
        for level, width in reversed(list(enumerate(self.config.channels))):
            for _ in range(self.config.blocks + 1):
                self.width += skips.pop()
                self.stage(width, attention=self.size in self.config.attention_at)
            if level:
                self.size *= 2
                self.upsample_conv2d += self.conv(width, width)

    def stage(self, c_out: int, *, attention: bool) -> None:
        """A residual block from the present width, and attention behind it."""
        self.conv2d += self.conv(self.width, c_out) + self.conv(c_out, c_out)
        if self.width != c_out:
            self.conv2d += self.conv(self.width, c_out, taps=1)
        scale_and_shift = 2 if self.config.conditioning == "scale-shift" else 1
        self.linear += 2 * self.emb * c_out * scale_and_shift
        self.width = c_out
        if attention:
            tokens = self.size**2
            self.linear += 2 * tokens * c_out * (3 * c_out + c_out)  # qkv and out
            self.attention += 4 * tokens**2 * c_out

    def conv(self, c_in: int, c_out: int, *, taps: int = 9) -> float:
        """Operations of a convolution whose output has the present resolution."""
        return 2.0 * taps * c_in * c_out * self.size**2
