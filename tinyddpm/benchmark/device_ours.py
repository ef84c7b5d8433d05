"""Our side on a GPU: the steps of ``train --device cuda`` and ``sample --device cuda``."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property, partial
from typing import final

import numpy as np

from tinyddpm.arrays import Array, IntArray, to_device, to_host
from tinyddpm.benchmark import device
from tinyddpm.benchmark.clock import Timed
from tinyddpm.benchmark.ours import fill_with_noise, random_dataset
from tinyddpm.data.dataset import Dataset
from tinyddpm.diffusion.sampling import SampleStep
from tinyddpm.kernels.cuda.runtime import Precision, Runtime
from tinyddpm.kernels.cuda.table import cuda_table
from tinyddpm.nn.config import UNetConfig
from tinyddpm.nn.unet import UNet
from tinyddpm.training.config import RunConfig
from tinyddpm.training.device_step import DeviceTrainer
from tinyddpm.training.device_walk import DeviceWalks
from tinyddpm.training.kernel_choice import cuda_runtime

REPEATS = 200  # 51,200 images, as many as real sets have: at each epoch the host sends their order


def many_images(network: UNetConfig) -> Dataset:
    """Return the random images over and over."""
    few = random_dataset(network)
    return Dataset(few.name, np.tile(few.images, (REPEATS, 1, 1, 1)))


@final
class DeviceOurs:
    """A run on a GPU that has just begun, with noise for weights, and the sampling of its network.

    The counterpart of ``ours.Ours``. A step of either kind is recorded when it is first done.

    Args:
        config: the run; its data are random.
        precision: of the products.
        runtime: the device; it may be wrapped.

    Attributes:
        images: of the data set.
        parameters: of the network that is sampled, on the host.
        trainer: the one that is trained.
    """

    name = "tinyddpm"

    def __init__(
        self, config: RunConfig, precision: Precision, runtime: Runtime | None = None
    ) -> None:
        self._config, self._runtime = config, runtime or cuda_runtime()
        self._kernels = cuda_table(self._runtime, precision)
        dataset, host = many_images(config.network), UNet(config.network)
        fill_with_noise(host.parameters)
        self.images, self.parameters = dataset.images, host.parameters
        self.trainer = DeviceTrainer(config, dataset, self._runtime, precision)
        self._runtime.upload(self.parameters.value, self.trainer.network.parameters.value)
        self._steps, self._chain = 0, self._new_chain()

    @cached_property
    def network(self) -> UNet:
        """The one that is sampled, which training leaves as it is."""
        values = to_device(self.parameters.value, "cuda")
        return UNet(self._config.network, kernels=self._kernels, values=values)

    @cached_property
    def _walks(self) -> DeviceWalks:
        shape = (self._config.batch, *self.images.shape[1:])
        return DeviceWalks(self.network, self._config.diffusion.build(), self._runtime, shape)

    def timed(self, kind: str) -> Timed:
        """What does ``kind`` of steps (``train`` or ``sample``), with a clock."""
        return partial(device.seconds_of, getattr(self, kind))

    def output(self, x: Array, t: IntArray) -> Array:
        """The network's output (N, H, W, C_out) for ``x`` (N, H, W, C) and 0-based ``t``."""
        return to_host(self.network.forward(to_device(x, "cuda"), t)[0])

    def train(self) -> None:
        """Do one training step, and report on an earlier one."""
        self._steps += 1
        for _ in self.trainer.advance(self._steps):
            pass

    def sample(self) -> None:
        """Do one step of the reverse chain of a batch; after the last, begin another."""
        if next(self._chain).t == 1:
            self._chain = self._new_chain()

    def _new_chain(self) -> Iterator[SampleStep]:
        yield from self._walks.walk()
