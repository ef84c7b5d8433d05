"""Sampling on a GPU: one step of the reverse chain is recorded, and launched for every t."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from tinyddpm.arrays import Array, IntArray, xp_of
from tinyddpm.diffusion.gaussian import GaussianDiffusion
from tinyddpm.diffusion.guidance import guide
from tinyddpm.diffusion.sampling import SampleStep
from tinyddpm.kernels.cuda.denoise import Denoising
from tinyddpm.kernels.cuda.runtime import Runtime
from tinyddpm.nn.unet import UNet
from tinyddpm.rng import Stream
from tinyddpm.training.device_tables import chain_table

AT_ONCE = 256  # images that go through the network together


class Told(NamedTuple):
    """What the network is told of the images' classes, and how much it is to mean."""

    labels: IntArray  # (N,) host
    null_label: int
    guidance: float


def device_walk(
    network: UNet,
    chain: GaussianDiffusion,
    runtime: Runtime,
    shape: tuple[int, int, int, int],
    *,
    eta: float | None,
    seed: int,
    stream: Stream,
    told: Told | None = None,
    x_T: Array | None = None,
) -> Iterator[SampleStep]:
    """Walk as ``chain.sample_steps`` does, or with an ``eta`` as ``chain.ddim_steps``.

    The noise is the same, and the model is that of ``guided_model`` where there are labels. The way
    begins at ``x_T``, a host array, if it is given.
    """
    images = Denoising(runtime, chain_table(chain, eta), shape, seed=seed, stream=stream)
    model = _Model(network, runtime, told)

    def step() -> None:
        images.next_time()
        for first in range(0, shape[0], AT_ONCE):
            part = slice(first, min(first + AT_ONCE, shape[0]))
            images.update(model(images.x[part], images.times[part], part), first)

    images.begin(x_T)
    replay: Callable[[], None] | None = None
    for t in range(chain.schedule.T, 0, -1):
        if replay is None:
            replay = runtime.record(step)
        else:
            replay()
        yield SampleStep(t, images.x.copy(), images.x0_hat.copy())  # they are written over


class _Model:
    """The network at x_t, with the labels of a part of the images, which lie on the device."""

    def __init__(self, network: UNet, runtime: Runtime, told: Told | None) -> None:
        self._network, self._told = network, told
        network.parameters.prepare()
        if told:
            self._labels = runtime.constant(told.labels.astype(np.int32))
            self._null = runtime.constant(np.full(len(told.labels), told.null_label, np.int32))

    def __call__(self, x: Array, times: Array, part: slice) -> Array:
        """Return the output for ``x``, the images of ``part``, guided if asked for."""
        if not self._told:
            return self._network.forward(x, times, prepare=False)[0]
        if not self._told.guidance:
            labels = self._labels[part]
            return self._network.forward(x, times, labels=labels, prepare=False)[0]
        xp, n, c = xp_of(x), len(x), x.shape[-1]
        both, _ = self._network.forward(
            xp.concatenate([x, x]),
            xp.concatenate([times, times]),
            labels=xp.concatenate([self._labels[part], self._null[part]]),
            prepare=False,
        )
        guided = guide(both[:n, ..., :c], both[n:, ..., :c], self._told.guidance)
        output: Array = xp.concatenate([guided, both[:n, ..., c:]], axis=-1)
        return output
