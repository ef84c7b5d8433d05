"""The least memory that the steps of a run take on a CPU, found without doing one.

    4 P · 5         float32: value, average, two moments and gradient of P parameters
    A S N           what a network's forward keeps for its backward, A of each of the N images of
                    each of the S shards that are at work at once; or, where it is more,
    4 P S           the gradients of these shards, which come while that goes
    128 B           place, image, time, weight and loss of each of a batch's B images, and what they
                    are drawn from

A is found by sending one image through the network. (Of several images together, small maps are
convolved in another way, which keeps more.) Not counted are what a layer needs while it is at work,
what the process has in use before the run, and the copies of gradients that processes share: only
small networks are trained by processes.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tinyddpm.arrays import Array
from tinyddpm.nn.unet import UNet
from tinyddpm.training.config import RunConfig

PER_IMAGE = 128  # bytes, of the batch


def least_memory(config: RunConfig, network: UNet, threads: int) -> int:
    """Return the bytes that the steps of ``config`` take at least, on as many ``threads``."""
    at_once = min(threads, -(-config.batch // config.shard))
    images = min(at_once * config.shard, config.batch)
    each, kept = 4 * network.parameters.count, kept_an_image(network) * images
    return 5 * each + max(kept, each * at_once) + PER_IMAGE * config.batch


def kept_an_image(network: UNet) -> int:
    """Return the bytes that a forward of ``network`` keeps of an image; weights are not counted."""
    blank = np.zeros((1, *network.config.image_shape), np.float32)
    _, saved = network.forward(blank, np.zeros(1, np.int64))
    weights = network.parameters.value
    own = (array for array in _arrays(saved) if not np.may_share_memory(array, weights))
    held = {array.__array_interface__["data"][0]: array.nbytes for array in own}
    return sum(held.values())


def _arrays(saved: object) -> Iterator[Array]:
    """All arrays in nested tuples and lists."""
    if isinstance(saved, np.ndarray):
        yield saved
    elif isinstance(saved, tuple | list):
        for part in saved:
            yield from _arrays(part)
