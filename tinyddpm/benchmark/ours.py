"""Our side: the training step and the sampling step, as ``train`` and ``sample`` do them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial
from typing import final

import numpy as np

from tinyddpm import rng
from tinyddpm.arrays import Array, IntArray
from tinyddpm.benchmark.clock import Timed, seconds_of
from tinyddpm.data.dataset import Dataset
from tinyddpm.diffusion.sampling import SampleStep
from tinyddpm.nn.config import UNetConfig
from tinyddpm.nn.parameters import Parameters
from tinyddpm.ops.kernels import Kernels
from tinyddpm.parallel import Workers
from tinyddpm.training.config import RunConfig
from tinyddpm.training.denoiser import Denoiser
from tinyddpm.training.kernel_choice import kernels_for
from tinyddpm.training.model import TrainedModel
from tinyddpm.training.step import Trainer

IMAGES = 256  # of the data set


def random_dataset(network: UNetConfig) -> Dataset:
    """Return images of random bytes. (Some processors are faster on zeros: that would flatter.)"""
    shape = network.image_shape
    samples = np.arange(IMAGES)
    words = rng.words(0, "sample", step=0, samples=samples, count=math.prod(shape))
    return Dataset("random", (words >> 24).astype(np.uint8).reshape(IMAGES, *shape))


def fill_with_noise(parameters: Parameters) -> None:
    """Draw every parameter from 𝒩(0, 1/fan_in), including those that training starts at zero.

    A network that ends in zeros gives zeros, which would agree with any other such network's.
    """
    for index, p in enumerate(parameters):
        samples, scale = np.array([index]), math.prod(p.shape[:-1]) ** -0.5
        drawn = rng.normal(0, "init", step=1, samples=samples, shape=(p.size,))
        p.value[...] = scale * drawn.reshape(p.shape)
    parameters.prepare()


@final
class Ours:
    """A run that has just begun, with noise for weights, and the sampling of its network.

    Args:
        config: the run; its data are random.
        workers: who computes, both training and sampling.
        kernels: what computes the layers in training; the fastest unless given.

    Attributes:
        images: of the data set.
        network: the one whose values are sampled, which training leaves as it is.
        parameters: its own.
        trainer: the one that is trained.
    """

    name = "tinyddpm"

    def __init__(self, config: RunConfig, workers: Workers, kernels: Kernels | None = None) -> None:
        dataset = random_dataset(config.network)
        self.trainer = Trainer(config, dataset, workers, kernels or kernels_for("cpu"))
        fill_with_noise(self.trainer.network.parameters)
        model = TrainedModel(config, self.trainer.network.parameters.value.copy(), 0)
        self.network, self._diffusion = model.network, model.diffusion
        self.images, self.parameters = dataset.images, self.network.parameters
        self._denoiser = Denoiser(self.network, workers, config.shard)
        self._shape = (config.batch, *dataset.images.shape[1:])
        self._steps, self._chain = 0, self._new_chain()

    def timed(self, kind: str) -> Timed:
        """What does ``kind`` of steps (``train`` or ``sample``), with a clock."""
        return partial(seconds_of, getattr(self, kind))

    def output(self, x: Array, t: IntArray) -> Array:
        """The network's output (N, H, W, C_out) for ``x`` (N, H, W, C) and 0-based ``t``."""
        return self.network.forward(x, t)[0]

    def train(self) -> None:
        """Do one training step."""
        self._steps += 1
        self.trainer.step(self._steps)

    def sample(self) -> None:
        """Do one step of the reverse chain of a batch; after the last, begin another."""
        if next(self._chain).t == 1:
            self._chain = self._new_chain()

    def _new_chain(self) -> Iterator[SampleStep]:
        return self._diffusion.sample_steps(self._denoiser, self._shape)
