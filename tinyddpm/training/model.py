"""A trained network, ready to sample: what a checkpoint turns into."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal, final

import numpy as np
import numpy.typing as npt

from tinyddpm.arrays import Array, IntArray, to_device, to_host, xp_of
from tinyddpm.data.pixels import to_bytes
from tinyddpm.diffusion.gaussian import GaussianDiffusion
from tinyddpm.nn.unet import UNet
from tinyddpm.parallel import Workers, shard_slices
from tinyddpm.rng import Stream
from tinyddpm.training.checkpoint import Checkpoint
from tinyddpm.training.config import RunConfig
from tinyddpm.training.kernel_choice import kernels_for
from tinyddpm.training.run_directory import find

Weights = Literal["ema", "raw"]


@final
class Denoiser:
    """The model that the diffusion calls: shards of the batch on workers, time shifted by one.

    The diffusion counts t from 1; published networks are fed t − 1. The one place that knows is
    here (and in the training step, which calls the network itself).
    """

    def __init__(self, network: UNet, workers: Workers, shard: int) -> None:
        self.workers, self.shard = workers, shard
        network.parameters.prepare()
        self.replicas = [network.replica() for _ in range(workers.threads)]
        for replica in self.replicas:
            replica.parameters.adopt_prepared(network.parameters)

    def __call__(self, xt: Array, t: IntArray) -> Array:
        """Return the network's output for ``xt`` (N, H, W, C) at the paper's ``t`` (N,)."""
        slices = shard_slices(len(xt), self.shard)
        outputs: list[Array] = []

        def compute(worker: int, index: int) -> Array:
            part = slices[index]
            output, _ = self.replicas[worker].forward(xt[part], t[part] - 1, prepare=False)
            return output

        self.workers.run(len(slices), compute, lambda _, output: outputs.append(output))
        whole: Array = xp_of(xt).concatenate(outputs)
        return whole


@final
class TrainedModel:
    """A network with its chain.

    Attributes:
        config: of the run that it comes from.
        network: with the moving average of the weights, unless the raw ones were asked for.
        diffusion: its chain.
        step: how many steps it was trained.
    """

    def __init__(self, config: RunConfig, values: Array, step: int, *, device: str = "cpu") -> None:
        self.config, self.step, self.device = config, step, device
        kernels = kernels_for(device)
        self.network = UNet(config.network, kernels=kernels, values=to_device(values, device))
        self.diffusion: GaussianDiffusion = config.diffusion.build()

    def sample(
        self,
        n: int,
        *,
        steps: int | None = None,
        seed: int = 0,
        stream: Stream = "sample",
        threads: int = 0,
        progress: Callable[[int], None] | None = None,
    ) -> npt.NDArray[np.uint8]:
        """Return ``n`` images (n, H, W, C), bytes.

        Args:
            n: how many.
            steps: of the reverse chain, 1 … T; all T unless given.
            seed: of the noise; image i depends on the seed and on i alone.
            stream: of the random numbers.
            threads: 0 means one for each core.
            progress: called after each step with its t.

        Raises:
            UsageError: ``steps`` is out of range.
        """
        chain = self.diffusion.respace(self.diffusion.schedule.T if steps is None else steps)
        network = self.config.network
        shape = (n, network.image_size, network.image_size, network.in_channels)
        with Workers(threads if self.device == "cpu" else 1) as workers:
            denoiser = Denoiser(self.network, workers, self.config.shard)
            x = chain.sample(
                denoiser, shape, seed=seed, stream=stream, device=self.device, progress=progress
            )
        return to_bytes(to_host(x))


def load(
    run_or_checkpoint: str | Path, *, weights: Weights = "ema", device: str = "cpu"
) -> TrainedModel:
    """Return the model in a run directory or a checkpoint file, ready to sample.

    Args:
        run_or_checkpoint: such as ``runs/mnist-1``, or a ``.npz`` in its ``checkpoints``.
        weights: ``ema``, or ``raw`` for the last ones as they were.
        device: ``cpu`` or ``cuda``.

    Raises:
        UsageError: there is no run there.
        CheckpointError: the file is damaged, or of another program.
    """
    return from_checkpoint(find(Path(run_or_checkpoint)).checkpoint, weights, device)


def from_checkpoint(
    checkpoint: Checkpoint, weights: Weights = "ema", device: str = "cpu"
) -> TrainedModel:
    """Return the model in ``checkpoint``."""
    values = {"ema": checkpoint.ema, "raw": checkpoint.value}[weights]
    config = RunConfig.from_json(checkpoint.config)
    return TrainedModel(config, values, checkpoint.step, device=device)
