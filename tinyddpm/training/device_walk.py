"""Sampling on a GPU: one step of the reverse chain is recorded, and launched for every t."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import final

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


@final
class DeviceWalks:
    """Walks of as many images each, by one step, which is recorded in the first of them.

    They are those of ``chain.sample_steps``, or with an ``eta`` of ``chain.ddim_steps``: the noise
    is the same, and the model is that of ``guided_model`` where the network knows classes.

    Args:
        network: its weights must stay as they are.
        chain: respaced, it is walked in fewer steps.
        runtime: the device.
        shape: (N, H, W, C) of the images of a walk.
        eta: of DDIM; None: ancestral sampling.
        guidance: w of classifier-free guidance.
        seed: of the noise.
        stream: of the random numbers.
    """

    def __init__(
        self,
        network: UNet,
        chain: GaussianDiffusion,
        runtime: Runtime,
        shape: tuple[int, int, int, int],
        *,
        eta: float | None = None,
        guidance: float = 0.0,
        seed: int = 0,
        stream: Stream = "sample",
    ) -> None:
        self._runtime, self._T, self._n = runtime, chain.schedule.T, shape[0]
        self._images = Denoising(runtime, chain_table(chain, eta), shape, seed=seed, stream=stream)
        self._model = _Model(network, runtime, shape[0], guidance)
        self._replay: Callable[[], None] | None = None

    def walk(
        self, first_sample: int = 0, labels: IntArray | None = None, x_T: Array | None = None
    ) -> Iterator[SampleStep]:
        """Walk with the images from number ``first_sample`` on, or from ``x_T`` (N, H, W, C).

        One walk must end, or be given up, before another begins. ``labels`` (N,) are for a network
        with classes; without them it is asked for none. Both arrays are the host's.

        Raises:
            ValueError: there are no such classes.
            DeviceError: the device's memory is full.
        """
        images = self._images
        self._model.ask_for(labels)
        images.begin(x_T, first_sample)
        for t in range(self._T, 0, -1):
            if self._replay is None:
                self._replay = self._runtime.record(self._step)
            else:
                self._replay()
            yield SampleStep(t, images.x.copy(), images.x0_hat.copy())  # they are written over

    def _step(self) -> None:
        """All of one step. It reads nothing of the host that changes."""
        images = self._images
        images.next_time()
        for first in range(0, self._n, AT_ONCE):
            part = slice(first, min(first + AT_ONCE, self._n))
            images.update(self._model(images.x[part], images.times[part], part), first)


class _Model:
    """The network at x_t, with the labels of a part of the n images, which lie on the device."""

    def __init__(self, network: UNet, runtime: Runtime, n: int, guidance: float) -> None:
        self._network, self._runtime, self._guidance = network.forward_only(), runtime, guidance
        self._labels: Array | None = None
        self._nobody = np.full(n, network.config.classes, np.int32)  # the null label
        if network.config.classes:
            self._labels, self._null = (runtime.constant(self._nobody) for _ in range(2))

    def ask_for(self, labels: IntArray | None) -> None:
        """Show ``labels`` (N,) to the network from now on, null labels without them.

        Raises:
            ValueError: there are no such classes.
        """
        if self._labels is None:
            return
        labels, classes = self._nobody if labels is None else labels, self._network.config.classes
        if labels.min() < 0 or labels.max() > classes:  # on the device nobody would notice
            raise ValueError(f"labels must lie in 0 … {classes}: got {labels}")
        self._runtime.upload(labels, self._labels)

    def __call__(self, x: Array, times: Array, part: slice) -> Array:
        """Return the output for ``x``, the images of ``part``, guided if asked for."""
        if self._labels is None or not self._guidance:
            labels = None if self._labels is None else self._labels[part]
            return self._network.forward(x, times, labels=labels, prepare=False)[0]
        xp, n, c = xp_of(x), len(x), x.shape[-1]
        both, _ = self._network.forward(
            xp.concatenate([x, x]),
            xp.concatenate([times, times]),
            labels=xp.concatenate([self._labels[part], self._null[part]]),
            prepare=False,
        )
        guided = guide(both[:n, ..., :c], both[n:, ..., :c], self._guidance)
        output: Array = xp.concatenate([guided, both[:n, ..., c:]], axis=-1)
        return output
