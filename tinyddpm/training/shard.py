"""What a worker does with a shard of a training step's batch: its share of the gradient.

What is drawn for an image depends only on (seed, step, place in the batch), and so not on which
worker has its shard.
"""

from __future__ import annotations

from typing import NamedTuple, final

import numpy as np

from tinyddpm import rng
from tinyddpm.arrays import Array, IntArray
from tinyddpm.data.dataset import Dataset
from tinyddpm.data.pixels import from_bytes
from tinyddpm.diffusion.gaussian import GaussianDiffusion
from tinyddpm.diffusion.guidance import drop_labels
from tinyddpm.nn.embedding import network_time
from tinyddpm.nn.masks import DropoutMasks
from tinyddpm.nn.parameters import empty_slots
from tinyddpm.nn.unet import UNet
from tinyddpm.parallel import shared_zeros
from tinyddpm.training.config import RunConfig


class Shard(NamedTuple):
    """The part of a step's batch that a worker is given.

    Attributes:
        step: of the training.
        version: of the weights: how many times they have been prepared.
        number: of the shard.
        places: (N,) the places of its images in the batch.
        indices: (N,) their places in the data set.
        t: (N,) their times.
        dlosses: (N,) the weight of each image's loss in the loss of the batch, float32.
    """

    step: int
    version: int
    number: int
    places: IntArray
    indices: IntArray
    t: IntArray
    dlosses: Array

    def part(self, number: int, images: slice) -> Shard:
        """Return shard ``number``, which has these ``images`` of a batch described as one shard."""
        places, indices, t = self.places[images], self.indices[images], self.t[images]
        return Shard(self.step, self.version, number, places, indices, t, self.dlosses[images])


@final
class ShardWork:
    """Sends shards through the network. Each worker has a replica of it that shares its values.

    On threads the gradients are the very arrays that the layers made, in memory that the backward
    has freed. Processes copy theirs into shared memory.

    Args:
        config: the run.
        dataset: the training set.
        diffusion: its chain.
        network: the gradients of all shards are added to its gradient.
        workers: how many shards may be worked on at once.
        processes: whether the workers are processes; the network's values then move into memory
            that the processes share.
    """

    def __init__(
        self,
        config: RunConfig,
        dataset: Dataset,
        diffusion: GaussianDiffusion,
        network: UNet,
        *,
        workers: int,
        processes: bool,
    ) -> None:
        self._config, self._dataset, self._diffusion = config, dataset, diffusion
        self._parameters = network.parameters
        self._copies: list[Array] = []  # of each worker's gradient, flat, in shared memory
        if processes:
            value, count = self._parameters.value, self._parameters.count
            shared, *self._copies = (shared_zeros(count) for _ in range(1 + workers))
            shared[...] = value
            self._parameters.bind(shared, self._parameters.grad)
        self._replicas = [network.replica() for _ in range(workers)]
        self.version = 0  # of the weights that are prepared here

    def prepare(self, version: int) -> None:
        """Prepare this ``version`` of the weights, if that has yet to be done here.

        Each process does it for itself; a thread finds it done.
        """
        if self.version != version:
            self.version = version
            self._parameters.prepare()
            for replica, _ in self._replicas:
                replica.parameters.adopt_prepared(self._parameters)

    def __call__(self, shard: Shard) -> Array:
        """Find the gradient of ``shard``; return the losses of its images."""
        self.prepare(shard.version)
        worker = shard.number % len(self._replicas)
        network, slots = self._replicas[worker]
        empty_slots(slots)
        losses = self._backward(network, shard)
        if self._copies:
            np.concatenate([slot.emptied().ravel() for slot in slots], out=self._copies[worker])
        return losses

    def add_gradient(self, number: int) -> None:
        """Add the gradient of shard ``number`` to the network's; shard 0 replaces what was there.

        To be called in the order of the shards.
        """
        worker, total = number % len(self._replicas), self._parameters
        if self._copies:
            pairs = [(total.grad, self._copies[worker])]
        else:
            _, slots = self._replicas[worker]
            pairs = [(p.grad, slot.emptied()) for p, slot in zip(total, slots, strict=True)]
        for grad, part in pairs:
            if number:
                np.add(grad, part, out=grad)
            else:
                np.copyto(grad, part)

    def _backward(self, network: UNet, shard: Shard) -> Array:
        seed, step, places = self._config.seed, shard.step, shard.places
        x0 = self._images(shard)
        eps = rng.normal(seed, "noise", step=step, samples=places, shape=x0.shape[1:])
        xt = self._diffusion.q_sample(x0, shard.t, eps)
        labels, masks = self._labels(shard), DropoutMasks(seed, step, places)
        output, saved = network.forward(
            xt, network_time(shard.t), labels=labels, masks=masks, prepare=False
        )
        chain = self._config.diffusion
        losses, saved_losses = self._diffusion.image_losses(
            output, x0, xt, eps, shard.t, objective=chain.objective, vlb_weight=chain.vlb_weight
        )
        doutput = self._diffusion.image_losses_backward(shard.dlosses, saved_losses)
        network.backward(doutput, saved, use_up=True)
        return losses

    def _images(self, shard: Shard) -> Array:
        """x_0 (N, H, W, C), half of them mirrored where the run asks for that."""
        x0 = from_bytes(self._dataset.images[shard.indices])
        if self._config.flips:
            seed, step = self._config.seed, shard.step
            words = rng.words(seed, "flip", step=step, samples=shard.places, count=1)
            mirrored = words[:, 0] >> 31 == 1
            x0[mirrored] = x0[mirrored, :, ::-1]
        return x0

    def _labels(self, shard: Shard) -> IntArray | None:
        """The labels of the images, some of them dropped; None without classes."""
        null_label, labels = self._config.network.classes, self._dataset.labels
        if not null_label or labels is None:
            return None
        seed, probability = self._config.seed, self._config.label_dropout
        u = rng.uniform(seed, "labels", step=shard.step, samples=shard.places, shape=())
        chosen = labels[shard.indices]
        return drop_labels(chosen, u, null_label=null_label, probability=probability)
