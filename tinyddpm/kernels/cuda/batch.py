"""Batches made on the device: picked from the bytes of the whole data set, noised, with targets.

What an image gets is a function of (seed, step, place in the batch), the same integers and, up to
rounding, the same numbers as ``training.step`` computes on the host.
"""

from __future__ import annotations

import math
from typing import NamedTuple, final

import numpy as np

from tinyddpm.arrays import Array, IntArray
from tinyddpm.kernels.cuda.runtime import Runtime, blocks
from tinyddpm.kernels.cuda.source import Defines
from tinyddpm.rng import STREAMS

_THREADS = 256
_PREDICT = {"eps": 0, "x0": 1, "v": 2, "score": 3}


def stream_defines() -> dict[str, int]:
    """The numbers of the random streams, as the kernels name them."""
    return {f"STREAM_{name.upper()}": number for name, number in STREAMS.items()}


def batch_defines(predict: str, *, flips: bool) -> Defines:
    """The constants of ``batch.cu``."""
    return {"PREDICT": _PREDICT[predict], "FLIPS": int(flips), **stream_defines()}


class Noise(NamedTuple):
    """How images are noised, and what is to be predicted."""

    signal: Array  # (T + 1,) √ᾱ_t, host
    noise: Array  # (T + 1,) √(1 − ᾱ_t), host
    predict: str
    flips: bool
    seed: int


@final
class Batches:
    """The data set on the device, and the batch of the present step.

    Args:
        runtime: the device.
        images: (N, H, W, C) uint8, on the host.
        batch: images per step.
        noise: what is done to them.

    Attributes:
        xt: (batch, H, W, C) the noised images.
        target: the same shape; for a score times √(1 − ᾱ_t).
        times: (batch,) the paper's t, int32.
        noise_rates: (T + 1,) √(1 − ᾱ_t), float32.
    """

    def __init__(self, runtime: Runtime, images: Array, batch: int, noise: Noise) -> None:
        self._runtime, self._noise = runtime, noise
        self._images = runtime.empty(images.shape, np.uint8)
        runtime.upload(images, self._images)
        rows = batch // len(images) + 2  # the epochs of one step, and the next
        self._orders = runtime.empty((rows, len(images)), np.int32)
        self._epochs = [-1] * rows
        self._signal, self.noise_rates = (
            runtime.empty(table.shape) for table in (noise.signal, noise.noise)
        )
        runtime.upload(noise.signal, self._signal)
        runtime.upload(noise.noise, self.noise_rates)
        shape = (batch, *images.shape[1:])
        self.xt, self.target = runtime.empty(shape), runtime.empty(shape)
        self.times = runtime.empty((batch,), np.int32)

    def holds(self, epoch: int) -> bool:
        """Whether the order of ``epoch`` is on the device."""
        return self._epochs[epoch % len(self._epochs)] == epoch

    def take_order(self, epoch: int, order: IntArray) -> None:
        """Put the order (N,) of the images in ``epoch`` on the device, over an old one."""
        row = epoch % len(self._epochs)
        self._runtime.upload(order, self._orders[row])
        self._epochs[row] = epoch

    def draw(self, state: Array) -> None:
        """Fill ``xt``, ``target`` and ``times`` for step ``state[0]``, on the device."""
        n, height, width, channels = self._images.shape
        batch, seed, T = len(self.xt), self._noise.seed, len(self._signal) - 1
        defines = batch_defines(self._noise.predict, flips=self._noise.flips)
        self._runtime.launch(
            self._runtime.function("batch.cu", "noised_batch", defines),
            (blocks(height * width * channels, 4 * _THREADS), batch),
            (_THREADS,),
            (
                *(self._images, self._orders, state, self._signal, self.noise_rates),
                *(self.xt, self.target, self.times),
                *(n, len(self._epochs), batch, height * width, width, channels, T, seed),
            ),
        )

    def masks(self, state: Array) -> Masks:
        """The dropout of step ``state[0]``."""
        defines = batch_defines(self._noise.predict, flips=self._noise.flips)
        return Masks(self._runtime, state, self._noise.seed, defines)


class Masks(NamedTuple):
    """Dropout masks made on the device; they mean what ``nn.masks.DropoutMasks`` means."""

    runtime: Runtime
    state: Array
    seed: int
    defines: Defines

    def keep(self, like: Array, rate: float, site: int) -> Array:
        """Return the mask of layer ``site`` in the shape of ``like``: true with 1 − rate."""
        size = math.prod(like.shape[1:])
        keep = self.runtime.empty(like.shape, np.uint8)
        self.runtime.launch(
            self.runtime.function("batch.cu", "keep_mask", self.defines),
            (blocks(size, 4 * _THREADS), len(like)),
            (_THREADS,),
            (keep, self.state, size, site, int(rate * 2**32), self.seed),
        )
        return keep.view(np.bool_)
