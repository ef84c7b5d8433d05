"""The model that the diffusion calls for its predictions."""

from __future__ import annotations

from functools import partial
from typing import final

import numpy as np

from tinyddpm.arrays import Array, IntArray, xp_of
from tinyddpm.errors import UsageError
from tinyddpm.nn.embedding import network_time
from tinyddpm.nn.unet import UNet
from tinyddpm.parallel import Workers, shard_slices

_MANY = 256  # images; more go the same ways through the network (see ``kernels.cpu.conv2d``)
_Asked = tuple[Array, IntArray, IntArray | None]  # x_t, t, labels


@final
class Denoiser:
    """The model that the diffusion calls: shards of the batch on workers, time shifted by one.

    The diffusion counts t from 1, published networks from 0: see ``nn.embedding.network_time``.
    The values of ``network`` must not change while it is in use. Only one thread at a time may call
    it, and the first call must come from the thread that made it.
    """

    def __init__(self, network: UNet, workers: Workers, shard: int) -> None:
        self.network, self.workers, self.shard = network.forward_only(), workers, shard
        if workers.threads > 1:  # transforms of weights are made once, before workers share them
            images = min(shard, _MANY)
            blank = np.zeros((images, *network.config.image_shape), np.float32)
            self.network.forward(blank, np.zeros(images, np.int64), prepare=False)
        work = partial(_outputs, self.network, shard)
        self._crew = workers.crew(work, processes=True)

    def __call__(self, xt: Array, t: IntArray, labels: IntArray | None = None) -> Array:
        """Return the network's output for ``xt`` (N, H, W, C) at the paper's ``t`` (N,).

        ``labels`` (N,) are for a network with classes; without them it is asked for no class.

        Raises:
            UsageError: there are no images.
        """
        if not len(xt):
            raise UsageError("there must be at least one image", cause=f"got {xt.shape}")
        share = self.shard * -(-len(xt) // (self.shard * self.workers.threads))  # of each worker
        outputs: list[Array] = []
        self._crew.run(
            [_part(xt, t, labels, images) for images in shard_slices(len(xt), share)],
            lambda _, output: outputs.append(output),
        )
        whole: Array = xp_of(xt).concatenate(outputs)
        return whole


def _outputs(network: UNet, shard: int, asked: _Asked) -> Array:
    """The outputs of ``network`` for a worker's share of the images, ``shard`` by ``shard``."""
    outputs = [
        network.forward(xt, network_time(t), labels=labels, prepare=False)[0]
        for xt, t, labels in (_part(*asked, part) for part in shard_slices(len(asked[0]), shard))
    ]
    whole: Array = xp_of(asked[0]).concatenate(outputs)
    return whole


def _part(xt: Array, t: IntArray, labels: IntArray | None, images: slice) -> _Asked:
    return xt[images], t[images], None if labels is None else labels[images]
