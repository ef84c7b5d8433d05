"""How the time of an image changes with the batch, the channels and the image's size, and where
most of it is not arithmetic.

What is timed is a shard: forward and backward of the network, on one thread.

A shard of whatever size takes the same number of calls of Python and NumPy. Their time, the
*overhead*, is measured as that of a shard with nearly no arithmetic: one image of the fewest pixels
that can be halved, in a network of the same levels, blocks and attention with four channels
throughout. Where a shard takes less than twice as long, overhead is most of its time.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import numpy as np

from tinyddpm.benchmark.clock import in_turns, seconds_of
from tinyddpm.benchmark.flops import BACKWARD, forward_products
from tinyddpm.benchmark.ours import fill_with_noise
from tinyddpm.blas import one_blas_thread
from tinyddpm.nn.config import UNetConfig
from tinyddpm.nn.unet import UNet
from tinyddpm.training.kernel_choice import kernels_for

ROUNDS = 5
_FACTORS = (0.25, 0.5, 1, 2)  # of the channels and of the size


class Point(NamedTuple):
    """One shard.

    Attributes:
        images: in it.
        channels: of the first level.
        size: pixels of a side.
        seconds: of the shard.
        flops: operations a second.
        overhead: share of the overhead in its time.
    """

    images: int
    channels: int
    size: int
    seconds: float
    flops: float
    overhead: float

    @property
    def per_image(self) -> float:
        """Seconds an image."""
        return self.seconds / self.images


class Scaling(NamedTuple):
    """Three series through one point, the network as it is with ``shard`` images.

    Attributes:
        overhead: seconds of a shard's calls.
        half: images in a shard of which overhead is half; None: it is less even for one image, or
            more even for the largest batch (see ``batch``).
        batch: by the number of images.
        channels: by the width.
        size: by the pixels of a side.
    """

    overhead: float
    half: float | None
    batch: list[Point]
    channels: list[Point]
    size: list[Point]


def measure_scaling(config: UNetConfig, *, batch: int, shard: int) -> Scaling:
    """Time shards of up to ``batch`` images, and of other networks with ``shard`` images."""
    overhead = shard_seconds(least_arithmetic(config), 1)

    def point(network: UNetConfig, images: int) -> Point:
        seconds = shard_seconds(network, images)
        work = images * (1 + BACKWARD) * forward_products(network).total
        first = network.channels[0]
        share = min(1.0, overhead / seconds)
        return Point(images, first, network.image_size, seconds, work / seconds, share)

    by_batch = [point(config, 2**k) for k in range(int(math.log2(batch)) + 1)]
    by_channels = [point(network, shard) for network in _by_channels(config)]
    by_size = [point(network, shard) for network in _by_size(config)]
    return Scaling(overhead, half_point(by_batch, overhead), by_batch, by_channels, by_size)


def half_point(by_batch: list[Point], overhead: float) -> float | None:
    """Return at how many images a shard takes 2 · ``overhead``, interpolated between the points.

    None if even the smallest shard takes longer, or even the largest does not take that long.
    """
    seconds, images = [p.seconds for p in by_batch], [p.images for p in by_batch]
    if not seconds[0] < 2 * overhead < seconds[-1]:
        return None
    return float(np.interp(2 * overhead, seconds, images))


def shard_seconds(config: UNetConfig, images: int) -> float:
    """The time of forward and backward of ``images`` images on one thread, in the fastest round."""
    network = UNet(config, kernels=kernels_for("cpu"))
    fill_with_noise(network.parameters)
    random = np.random.default_rng(0)
    shape = (images, config.image_size, config.image_size)
    x = random.standard_normal((*shape, config.in_channels), np.float32)
    dy = random.standard_normal((*shape, config.out_channels), np.float32)
    t = np.arange(images)

    def step() -> None:
        _, saved = network.forward(x, t)
        network.backward(dy, saved)

    with one_blas_thread():
        return min(in_turns({"": partial(seconds_of, step)}, rounds=ROUNDS, pause=0.0)[""])


def least_arithmetic(config: UNetConfig) -> UNetConfig:
    """The network of the same calls with the fewest operations."""
    widths = (4,) * len(config.channels)
    narrow = replace(config, channels=widths, groups=2, heads=1, dropout=0.0)
    return narrow.resized(config.divisor)


def _by_channels(config: UNetConfig) -> Iterator[UNetConfig]:
    for factor in _FACTORS:
        widths = tuple(int(c * factor) for c in config.channels)
        if min(widths) >= 4 and not any(c % config.heads for c in widths):
            yield replace(config, channels=widths, groups=math.gcd(config.groups, *widths))


def _by_size(config: UNetConfig) -> Iterator[UNetConfig]:
    least = config.divisor
    sizes = {max(least, round(config.image_size * f / least) * least) for f in _FACTORS}
    for size in sorted(sizes):
        yield config.resized(size)
