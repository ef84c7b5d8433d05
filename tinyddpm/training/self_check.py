"""Whether the fast kernels of a device compute on this machine what the reference ops define."""

from __future__ import annotations

import numpy as np

from tinyddpm.arrays import Array, to_device, to_host
from tinyddpm.nn.config import UNetConfig
from tinyddpm.nn.unet import UNet
from tinyddpm.ops.kernels import Kernels, reference
from tinyddpm.training.kernel_choice import kernels_for

TOLERANCE = 1e-3  # of the largest value; float32 is off by some 1e-6, a wrong kernel by about 1

# Its convolutions go every way that the ``cpu`` table knows; with attention.
NETWORK = UNetConfig(image_size=20, channels=(32, 64, 32), attention_at=(10,), zero_init=False)


def self_check(device: str = "cpu") -> float:
    """Return the largest error of output and gradients of a small network, of the largest value.

    The network runs forward and backward in float32 with the kernels of ``device``, and in float64
    with the reference ops.
    """
    values = UNet(NETWORK, seed=1).parameters.value
    fast = _passes(values, kernels_for(device), np.float32, device)
    exact = _passes(values, reference, np.float64, "cpu")
    return max(
        float(np.abs(a - b).max() / np.abs(b).max()) for a, b in zip(fast, exact, strict=True)
    )


def _passes(values: Array, kernels: Kernels, dtype: type, device: str) -> tuple[Array, ...]:
    """Output, gradient of the input and gradient of the parameters, on the host."""
    network = UNet(NETWORK, kernels=kernels, values=to_device(values.astype(dtype), device))
    shape = (2, NETWORK.image_size, NETWORK.image_size, 1)
    count = 2 * NETWORK.image_size**2
    x = np.sin(0.37 * np.arange(count)).reshape(shape).astype(dtype)
    dy = np.cos(0.61 * np.arange(count)).reshape(shape).astype(dtype)
    y, saved = network.forward(to_device(x, device), np.array([3, 700]))
    dx = network.backward(to_device(dy, device), saved)
    return to_host(y), to_host(dx), to_host(network.parameters.grad)
