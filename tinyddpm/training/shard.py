"""What a worker does with a shard of a training step's batch: its share of the gradient.

What is drawn for an image depends on (seed, step, place in the batch) alone, and so not on who
works on its shard.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, final

from tinyddpm import rng
from tinyddpm.arrays import Array, IntArray
from tinyddpm.data.dataset import Dataset
from tinyddpm.data.pixels import to_unit
from tinyddpm.diffusion.gaussian import GaussianDiffusion
from tinyddpm.diffusion.guidance import drop_labels
from tinyddpm.nn.embedding import network_time
from tinyddpm.nn.masks import DropoutMasks
from tinyddpm.nn.unet import UNet
from tinyddpm.training.config import RunConfig


class Shard(NamedTuple):
    """What a worker is told of its part of a step's batch.

    Attributes:
        weights: how many times they are to have been prepared.
        number: of the shard.
        places: of its images in the batch (N,).
        indices: of its images in the data set (N,).
        t: their times (N,).
        dlosses: the weight of each one's loss in that of the batch (N,), float32.
    """

    step: int
    weights: int
    number: int
    places: IntArray
    indices: IntArray
    t: IntArray
    dlosses: Array

    def part(self, number: int, images: slice) -> Shard:
        """Return shard ``number`` of a batch that is told of in the same way, its ``images``."""
        places, indices, t = self.places[images], self.indices[images], self.t[images]
        return Shard(self.step, self.weights, number, places, indices, t, self.dlosses[images])


@final
class ShardWork:
    """The networks that shards are sent through, which share values and have gradients of their
    own: ``network``, and one replica for each worker.

    Args:
        config: the run.
        dataset: the training set.
        diffusion: its chain.
        network: to whose gradient all others will be added.
        workers: how many shards of a batch may be worked on at once, beside the first.
    """

    def __init__(
        self,
        config: RunConfig,
        dataset: Dataset,
        diffusion: GaussianDiffusion,
        network: UNet,
        workers: int,
    ) -> None:
        self._config, self._dataset, self._diffusion = config, dataset, diffusion
        self._networks = [network, *(network.replica() for _ in range(workers))]
        self.prepared = 0  # how many times the weights were

    def share_memory(self, zeros: Callable[[int], Array]) -> None:
        """Put all values and gradients into memory that ``zeros`` returns."""
        parameters = self._networks[0].parameters
        value = zeros(parameters.count)
        value[...] = parameters.value
        for network in self._networks:
            network.parameters.bind(value, zeros(parameters.count))

    def network_of(self, number: int) -> UNet:
        """To whose gradient a shard adds: the first to the network's own, every other to a
        replica's, which is added to it when its turn has come.
        """
        first, *replicas = self._networks
        return replicas[(number - 1) % len(replicas)] if number else first

    def prepare(self, times: int) -> None:
        """See to it that the weights were prepared so many times: each process does it for itself,
        threads find it done.
        """
        if self.prepared != times:
            self.prepared = times
            first, *replicas = (network.parameters for network in self._networks)
            first.prepare()
            for replica in replicas:
                replica.adopt_prepared(first)

    def __call__(self, shard: Shard) -> Array:
        """Put the gradient of ``shard`` into its network's; return the losses of its images."""
        self.prepare(shard.weights)
        network = self.network_of(shard.number)
        network.parameters.grad[...] = 0  # whatever an interrupted step has left
        return self._add_gradient(network, shard)

    def _add_gradient(self, network: UNet, shard: Shard) -> Array:
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
        network.backward(doutput, saved)
        return losses

    def _images(self, shard: Shard) -> Array:
        """x_0 (N, H, W, C), half of them mirrored where the run asks for that."""
        x0 = to_unit(self._dataset.images[shard.indices])
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
        chosen = labels[shard.indices].astype("int64")
        return drop_labels(chosen, u, null_label=null_label, probability=probability)
