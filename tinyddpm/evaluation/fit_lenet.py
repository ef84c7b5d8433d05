"""Teaching LeNet-5 the digits by this package's own ops; on one machine, always to the same bits.

Each epoch goes through the images once, in an order of its own, and shifts each image by up to
``shift`` pixels either way. Each step is one of Adam on the mean cross entropy of a batch; the
learning rate falls linearly to 0. Philox makes order and shifts functions of (seed, epoch, image),
and gradients are added in the order of the shards, so threads change nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from tinyddpm import rng
from tinyddpm.arrays import Array, IntArray
from tinyddpm.data.dataset import ByteArray
from tinyddpm.evaluation.digits import Digits
from tinyddpm.evaluation.lenet import LeNet, pixels
from tinyddpm.ops.cross_entropy import cross_entropy, cross_entropy_backward
from tinyddpm.optim import adam
from tinyddpm.parallel import Workers, shard_slices

SHARD = 32


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """All that the weights are a function of, besides the data.

    Attributes:
        seed: of the initial values, the order and the shifts.
        epochs: passes over the images.
        batch: images per step; those left over at the end of an epoch's order are left out.
        lr: Adam's learning rate at the beginning.
        shift: the largest shift, in pixels.
    """

    seed: int = 0
    epochs: int = 15
    batch: int = 128
    lr: float = 2e-3
    shift: int = 2

    def steps(self, count: int) -> int:
        """Return the number of steps on ``count`` images."""
        return self.epochs * (count // min(self.batch, count))


def fit(
    digits: Digits,
    recipe: Recipe,
    *,
    threads: int = 0,
    progress: Callable[[float], None] | None = None,
) -> LeNet:
    """Return the network that ``recipe`` makes of ``digits``.

    Args:
        digits: to be learnt.
        recipe: everything else that counts.
        threads: 0 means one for each core.
        progress: called after each step with the loss of its batch, in nats.
    """
    images, labels = digits
    network = LeNet(recipe.seed)
    m, v = (np.zeros_like(network.parameters.value) for _ in range(2))
    total = recipe.steps(len(images))
    with Workers(threads) as workers:
        replicas = [network.replica() for _ in range(workers.threads)]
        for step, (epoch, chosen) in enumerate(_batches(recipe, len(images)), start=1):
            x = shifted(images[chosen], recipe, epoch=epoch, samples=chosen)
            loss = _add_gradients(workers, network, replicas, x, labels[chosen])
            lr = recipe.lr * (1 - (step - 1) / total)
            flat = network.parameters
            adam(flat.value, flat.grad, m, v, step=step, lr=lr)
            if progress is not None:
                progress(loss)
    network.parameters.prepare()
    return network


def _batches(recipe: Recipe, count: int) -> Iterator[tuple[int, IntArray]]:
    """Yield the epoch of each step, and the numbers of its images, of which there are ``count``."""
    batch = min(recipe.batch, count)
    for epoch in range(recipe.epochs):
        order = rng.permutation(recipe.seed, "order", epoch=epoch, n=count)
        for start in range(0, count - batch + 1, batch):
            yield epoch, order[start : start + batch]


def shifted(images: ByteArray, recipe: Recipe, *, epoch: int, samples: IntArray) -> ByteArray:
    """Return ``images`` (N, H, W, 1), each shifted as its number in ``samples`` (N,) says.

    What is moved in at an edge is black.
    """
    reach = recipe.shift
    u = rng.uniform(recipe.seed, "shift", step=epoch, samples=samples, shape=(2,))
    down, right = (u * (2 * reach + 1)).astype(np.int64).T
    border = (reach, reach)
    padded = np.pad(images[..., 0], ((0, 0), border, border))
    windows = sliding_window_view(padded, images.shape[1:3], axis=(1, 2))
    moved: ByteArray = windows[np.arange(len(images)), down, right][..., None]
    return moved


def _add_gradients(
    workers: Workers, network: LeNet, replicas: list[LeNet], images: ByteArray, labels: IntArray
) -> float:
    """Set the network's gradient to that of the batch's mean cross entropy, and return this."""
    network.parameters.prepare()
    network.parameters.grad[...] = 0
    for replica in replicas:
        replica.parameters.adopt_prepared(network.parameters)
    slices = shard_slices(len(images), SHARD)
    losses: list[float] = []

    def compute(worker: int, index: int) -> tuple[float, Array]:
        part, replica = slices[index], replicas[worker]
        share = len(images[part]) / len(images)
        replica.parameters.grad[...] = 0
        seen, saved = replica.forward(pixels(images[part]))
        loss, entropy_saved = cross_entropy(seen.logits, labels[part])
        replica.backward(cross_entropy_backward(share, entropy_saved), saved)
        return share * float(loss), replica.parameters.grad

    def commit(_: int, result: tuple[float, Array]) -> None:
        loss, grad = result
        losses.append(loss)
        network.parameters.grad += grad

    workers.run(len(slices), compute, commit)
    return sum(losses)
