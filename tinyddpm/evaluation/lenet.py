"""LeNet-5 (LeCun et al. 1998, "Gradient-based learning applied to document recognition") with ReLU.

    28×28 bytes / 255, a border of 2 zeros (black)
    → 6 maps by 5×5, ReLU, max pool         14×14×6
    → 16 maps by 5×5, ReLU, max pool        5×5×16 = 400     pooled
    → 120, ReLU → 84, ReLU                  84               hidden
    → 10                                                     logits

It judges generated digits: by the classes it sees in them, and by the two layers of features named
above, in which distances between sets of images are taken.
"""

from __future__ import annotations

from typing import Any, NamedTuple, final

import numpy as np
import numpy.typing as npt

from tinyddpm.arrays import Array
from tinyddpm.data.dataset import ByteArray
from tinyddpm.kernels.cpu import cpu
from tinyddpm.nn.layers import Builder, Conv2d, Linear
from tinyddpm.nn.parameters import Parameters
from tinyddpm.ops.kernels import Kernels
from tinyddpm.ops.max_pool import max_pool, max_pool_backward
from tinyddpm.ops.relu import relu, relu_backward

IMAGE_SHAPE = (28, 28, 1)
CLASSES = 10


class Activations(NamedTuple):
    """What a network makes of N images."""

    pooled: Array  # (N, 400)
    hidden: Array  # (N, 84)
    logits: Array  # (N, 10)


class LeNetSaved(NamedTuple):
    """What ``LeNet.backward`` needs."""

    convolutions: list[tuple[Any, Any, Any]]  # of conv, relu and max_pool
    map_shape: tuple[int, ...]  # (N, 5, 5, 16)
    dense: list[tuple[Any, Any]]  # of linear and relu
    head: Any


def pixels(images: ByteArray) -> Array:
    """Return ``images``, bytes of any shape, as float32 in [0, 1]: 0 is black, as is padding."""
    return images.astype(np.float32) / np.float32(255)


@final
class LeNet:
    """The network.

    Args:
        seed: of the initial values.
        kernels: what computes its layers.
        dtype: of the initial values.
        values: flat values to take instead of initial ones; they become the network's own memory.

    Attributes:
        parameters: the flat store, of 61,706 scalars.
    """

    def __init__(
        self,
        seed: int = 0,
        *,
        kernels: Kernels = cpu,
        dtype: npt.DTypeLike = np.float32,
        values: Array | None = None,
    ) -> None:
        self.kernels = kernels
        self.parameters = Parameters()
        build = Builder(self.parameters, kernels)
        self.convolutions = [
            Conv2d(build, "conv1", 1, 6, size=5, pad=(2, 2)),
            Conv2d(build, "conv2", 6, 16, size=5, pad=(0, 0)),
        ]
        self.dense = [Linear(build, "dense1", 400, 120), Linear(build, "dense2", 120, 84)]
        self.head = Linear(build, "head", 84, CLASSES)
        if values is None:
            values = self.parameters.initial_values(seed, dtype)
        self.parameters.bind(values)

    def replica(self) -> LeNet:
        """Return a network with the same values, in the same memory, and its own gradients."""
        return LeNet(kernels=self.kernels, values=self.parameters.value)

    def forward(self, x: Array) -> tuple[Activations, LeNetSaved]:
        """Return what is made of ``x`` (N, 28, 28, 1), pixels in [0, 1], and what is saved."""
        convolutions, dense, h = [], [], x
        for convolution in self.convolutions:
            h, conv_saved = convolution.forward(h)
            h, relu_saved = relu(h)
            h, pool_saved = max_pool(h)
            convolutions.append((conv_saved, relu_saved, pool_saved))
        map_shape = h.shape
        pooled = h = h.reshape(len(x), -1)
        for layer in self.dense:
            h, linear_saved = layer.forward(h)
            h, relu_saved = relu(h)
            dense.append((linear_saved, relu_saved))
        logits, head = self.head.forward(h)
        return Activations(pooled, h, logits), LeNetSaved(convolutions, map_shape, dense, head)

    def backward(self, dlogits: Array, saved: LeNetSaved) -> Array:
        """Add to all gradients, for ``dlogits`` (N, 10), and return ``dx``."""
        dh = self.head.backward(dlogits, saved.head)
        for layer, (linear_saved, relu_saved) in zip(
            reversed(self.dense), reversed(saved.dense), strict=True
        ):
            dh = relu_backward(dh, relu_saved)
            dh = layer.backward(dh, linear_saved)
        dh = dh.reshape(saved.map_shape)
        for convolution, (conv_saved, relu_saved, pool_saved) in zip(
            reversed(self.convolutions), reversed(saved.convolutions), strict=True
        ):
            dh = max_pool_backward(dh, pool_saved)
            dh = relu_backward(dh, relu_saved)
            dh = convolution.backward(dh, conv_saved)
        return dh
