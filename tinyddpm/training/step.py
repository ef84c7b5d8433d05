"""One training step (Ho et al. 2020, arXiv 2006.11239, algorithm 1), sharded over workers.

For each image of the batch: t ~ U{1 … T}, ε ~ 𝒩(0, I), x_t = √ᾱ_t x_0 + √(1 − ᾱ_t) ε, and the
gradient of the objective: ‖ε − ε_θ(x_t, t)‖² (mean over elements), the bound, or both. Then the
gradient is clipped by its global norm, and Adam and EMA update the weights. If t is drawn by
importance, losses are weighted by 1/(T p_t).

Gradients (see ``shard``) are added in the order of the shards, so that the result does not depend
on the number of workers.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from tinyddpm import optim, rng
from tinyddpm.arrays import Array, Floats, IntArray
from tinyddpm.data.dataset import Dataset
from tinyddpm.errors import NonFiniteError
from tinyddpm.nn.unet import UNet
from tinyddpm.ops.kernels import Kernels
from tinyddpm.parallel import Workers, shard_slices
from tinyddpm.training.config import RunConfig
from tinyddpm.training.kernel_choice import suits_processes
from tinyddpm.training.shard import Shard, ShardWork

_BLOCK = 1 << 19  # parameters that a thread updates at a time; fewer would not be worth the call


class StepReport(NamedTuple):
    """What one step found.

    Attributes:
        loss: mean of the objective over the batch, an unbiased estimate however t was drawn.
        quartiles: the unweighted mean for the t in each quarter of 1 … T; None if none is there.
        grad_norm: global norm before clipping.
        lr: the learning rate used.
    """

    loss: float
    quartiles: list[float | None]
    grad_norm: float
    lr: float


class Trainer:
    """The state of a run in memory, and its step on a CPU (on a GPU: ``DeviceTrainer``).

    A step is Ho et al. 2020, algorithm 1: t ~ U{1 … T}, ε ~ 𝒩(0, I), and one gradient step on
    ‖ε − ε_θ(√ᾱ_t x_0 + √(1 − ᾱ_t) ε, t)‖², or on another objective of the config.

    Args:
        config: the run.
        dataset: the training set.
        workers: who computes the shards.
        kernels: what computes the layers.

    Attributes:
        network: its parameters are the raw weights.
        ema: their moving average, flat.
        adam_m: Adam's first moment, flat.
        adam_v: Adam's second moment, flat.
    """

    device = "cpu"

    def __init__(
        self, config: RunConfig, dataset: Dataset, workers: Workers, kernels: Kernels
    ) -> None:
        self.config, self.dataset, self.workers = config, dataset, workers
        self.diffusion = config.diffusion.build()
        self.times = config.diffusion.build_times()
        self.network = UNet(config.network, config.seed, kernels=kernels)
        value = self.network.parameters.value
        self.ema = value.copy()
        self.adam_m = np.zeros_like(value)
        self.adam_v = np.zeros_like(value)
        self._blocks = shard_slices(len(value), _BLOCK)
        self._shards = shard_slices(config.batch, config.shard)
        processes = workers.can_have_processes() and suits_processes(self.network)
        at_once = min(workers.threads, len(self._shards))
        self._work = ShardWork(
            config, dataset, self.diffusion, self.network, workers=at_once, processes=processes
        )
        self._crew = workers.crew(self._work, processes=processes)
        self._epoch = -1
        self._order: IntArray = np.empty(0, np.int64)

    def step(self, step: int) -> StepReport:
        """Do step ``step``, counted from 1.

        Raises:
            NonFiniteError: the loss or the gradient is not finite; nothing was updated.
        """
        config = self.config
        losses, times, weights = self._gradient(step)
        norm = optim.global_norm(self.network.parameters.grad)
        loss, grad_norm = float((weights * losses).mean()), float(norm)
        check_finite(step, loss, grad_norm, times[~np.isfinite(losses)])
        self.times.update(times, losses)
        lr = optim.learning_rate(step, config.lr, config.warmup, config.decay_from)
        self._update(step, norm, lr)
        return StepReport(loss, by_quartile(losses, times, config.diffusion.T), grad_norm, lr)

    def advance(self, step: int) -> Iterator[tuple[int, StepReport]]:
        """Do step ``step`` and yield its report (``DeviceTrainer`` yields it some steps later).

        Raises:
            NonFiniteError: as in ``step``.
        """
        yield step, self.step(step)

    def flush(self) -> Iterator[tuple[int, StepReport]]:
        """Yield the reports of steps that were done and not yet reported: none here."""
        yield from ()

    def _update(self, step: int, norm: Array, lr: float) -> None:
        """Clip, Adam, EMA: block by block, on all threads."""
        value, grad = self.network.parameters.value, self.network.parameters.grad
        decay = optim.ema_decay(step, self.config.ema_decay)
        blocks = self._blocks

        def compute(_: int, index: int) -> None:
            block = blocks[index]
            buffers = value[block], grad[block], self.adam_m[block], self.adam_v[block]
            optim.clip_by_norm(grad[block], norm, self.config.grad_clip)
            optim.adam(*buffers, step=step, lr=lr)
            optim.ema(self.ema[block], value[block], decay)

        self.workers.run(len(blocks), compute, lambda _index, _result: None)

    def _gradient(self, step: int) -> tuple[Floats, IntArray, Floats]:
        """Fill the gradient of the batch; return loss, time and weight of each of its images."""
        batch = self.config.batch
        places, indices = np.arange(batch), self._batch_indices(step)
        times, weights = self.times.draw(self.config.seed, step=step, samples=places)
        dlosses, losses = (weights / batch).astype(np.float32), np.empty(batch)

        def commit(number: int, shard_losses: Array) -> None:
            self._work.add_gradient(number)
            losses[self._shards[number]] = shard_losses

        self._work.prepare(self._work.version + 1)
        whole = Shard(step, self._work.version, 0, places, indices, times, dlosses)
        shards = [whole.part(number, images) for number, images in enumerate(self._shards)]
        self._crew.run(shards, commit)
        return losses, times, weights

    def _batch_indices(self, step: int) -> IntArray:
        """The images of step ``step``: each epoch goes through a new permutation of all images."""
        n, batch = len(self.dataset.images), self.config.batch
        positions = np.arange((step - 1) * batch, step * batch)
        indices = np.empty(batch, np.int64)
        for epoch in range(int(positions[0]) // n, int(positions[-1]) // n + 1):
            if epoch != self._epoch:
                self._order = rng.permutation(self.config.seed, "order", epoch=epoch, n=n)
                self._epoch = epoch
            of_epoch = positions // n == epoch
            indices[of_epoch] = self._order[positions[of_epoch] % n]
        return indices


def check_finite(step: int, loss: float, grad_norm: float, bad_times: IntArray) -> None:
    """Refuse to go on from a loss or gradient that is not finite.

    Raises:
        NonFiniteError: one of them is not; it tells the times of the images where the loss is not.
    """
    if np.isfinite(loss) and np.isfinite(grad_norm):
        return
    where = f" (images at t = {bad_times.tolist()})" if len(bad_times) else ""
    raise NonFiniteError(
        f"step {step}: the loss or its gradient is not finite; nothing was updated",
        cause=f"loss {loss}, gradient norm {grad_norm}{where}",
        remedy="a new run with a smaller --lr; the checkpoints of this one are unharmed",
    )


def by_quartile(losses: Floats, times: IntArray, T: int) -> list[float | None]:
    """Return the mean loss where t lies in each quarter of 1 … T; None where no t does."""
    quartile = (times - 1) * 4 // T
    return [
        float(losses[quartile == q].mean()) if (quartile == q).any() else None for q in range(4)
    ]
