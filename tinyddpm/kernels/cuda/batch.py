"""Batches made on the device: picked from the bytes of the whole data set, noised, with targets.

What an image gets is a function of (seed, step, place in the batch), the same integers and, up to
rounding, the same numbers as ``training.step`` computes on the host.
"""

from __future__ import annotations

import math
from typing import NamedTuple, final

import numpy as np

from tinyddpm.arrays import Array, IntArray
from tinyddpm.kernels.cuda.runtime import Argument, Runtime, blocks
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


class Labels(NamedTuple):
    """What the network is told of the images' classes."""

    labels: Array  # (N,) uint8, host
    null_label: int
    dropped: float  # how often a label is replaced by the null label


@final
class Batches:
    """The data set on the device, and the batch of the present step.

    Args:
        runtime: the device.
        images: (N, H, W, C) uint8, on the host.
        batch: images per step.
        noise: what is done to them.
        labels: of the images, for a network with classes.
        times: (batch,) int32 on the device, where they are drawn by others; else uniformly.

    Attributes:
        x0: (batch, H, W, C) the images of the batch.
        xt: the same shape, the noised images.
        target: the same shape; for a score times √(1 − ᾱ_t).
        times: (batch,) the paper's t, int32.
        told: (batch,) labels, int32, or None.
    """

    def __init__(
        self,
        runtime: Runtime,
        images: Array,
        batch: int,
        noise: Noise,
        labels: Labels | None = None,
        times: Array | None = None,
    ) -> None:
        self._runtime, self._noise, self._labels = runtime, noise, labels
        self._defines = batch_defines(noise.predict, flips=noise.flips)
        self._images = runtime.empty(images.shape, np.uint8)
        runtime.upload(images, self._images)
        rows = batch // len(images) + 2  # the epochs of one step, and the next
        self._orders = runtime.empty((rows, len(images)), np.int32)
        self._epochs = [-1] * rows
        self._rates = runtime.empty((2, len(noise.signal)))
        runtime.upload(np.stack([noise.signal, noise.noise]), self._rates)
        shape = (batch, *images.shape[1:])
        self.x0, self.xt, self.target = (runtime.empty(shape) for _ in range(3))
        self._given = times is not None
        self.times = runtime.empty((batch,), np.int32) if times is None else times
        self.told = runtime.empty((batch,), np.int32) if labels else None
        if labels:
            self._all_labels = runtime.empty(labels.labels.shape, np.uint8)
            runtime.upload(labels.labels, self._all_labels)

    def holds(self, epoch: int) -> bool:
        """Whether the order of ``epoch`` is on the device."""
        return self._epochs[epoch % len(self._epochs)] == epoch

    def take_order(self, epoch: int, order: IntArray) -> None:
        """Put the order (N,) of the images in ``epoch`` on the device, over an old one."""
        row = epoch % len(self._epochs)
        self._runtime.upload(order, self._orders[row])
        self._epochs[row] = epoch

    def draw(self, state: Array) -> None:
        """Fill the attributes for step ``state[0]``, on the device."""
        n, height, width, channels = self._images.shape
        batch, seed, T = len(self.xt), self._noise.seed, self._rates.shape[1] - 1
        order = n, len(self._epochs), batch
        grid = (batch, blocks(height * width * channels, 4 * _THREADS))
        drawn = self.x0, self.xt, self.target, self.times, int(self._given)
        arrays = self._images, self._orders, state, *self._rates, *drawn
        self._launch(
            "noised_batch", grid, (*arrays, *order, height * width, width, channels, T, seed)
        )
        if self._labels:
            _, null_label, dropped = self._labels
            arrays = self._all_labels, self._orders, state, self.told
            self._launch(
                "told_labels",
                (blocks(batch, _THREADS),),
                (*arrays, *order, null_label, dropped, seed),
            )

    def masks(self, state: Array) -> Masks:
        """The dropout of step ``state[0]``."""
        return Masks(self._runtime, state, self._noise.seed, self._defines)

    def _launch(self, name: str, grid: tuple[int, ...], args: tuple[Argument, ...]) -> None:
        function = self._runtime.function("batch.cu", name, self._defines)
        self._runtime.launch(function, grid, (_THREADS,), args)


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
            (len(like), blocks(size, 4 * _THREADS)),
            (_THREADS,),
            (keep, self.state, size, site, int(rate * 2**32), self.seed),
        )
        return keep.view(np.bool_)
