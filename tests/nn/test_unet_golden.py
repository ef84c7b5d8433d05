"""Predictions of the published families at values written down as a formula.

The numbers come from PyTorch: from diffusers' UNet2DModel for the first two, and for the third from
the second derivation of improved-diffusion in ``improved_torch.py``. They hold the switches of
each family (ε of the norms, padding, order of scale and shift, of q, k and v, of the embedding)
where PyTorch is not installed.
"""

import math

import numpy as np
import pytest
from networks import narrow

from tinyddpm.nn.unet import UNet

T = np.array([3, 700])

# y[1, 5, 7], the sum of y and the sum of y²
GOLDEN = {
    "mnist-1.7m": ([2.3859813145235], 3673.8961053205, 8872.3639100309),
    "cifar10": (
        [1.1783682107110, -1.9702144914813, 1.0002286280749],
        432.48669518568,
        13691.922215045,
    ),
    "cifar10-improved": (
        [
            1.1184167128416,
            0.5301269374809,
            -0.3327153221773,
            -1.0286533020232,
            -1.1998516223628,
            -0.7560895277170,
        ],
        -3877.9676903308,
        14616.309345820,
    ),
}


def waves(shape, frequency):
    """Values in ±√2 of mean square one that repeat nowhere."""
    k = np.arange(math.prod(shape), dtype=np.float64)
    return math.sqrt(2) * np.sin(1 + frequency * k).reshape(shape)


def wavy_network(config):
    network = UNet(config, dtype=np.float64)
    for index, p in enumerate(network.parameters):
        p.value[...] = math.prod(p.shape[:-1]) ** -0.5 * waves(p.shape, 1.1 + 0.01 * index)
    return network


def wavy_images(config):
    return waves((2, config.image_size, config.image_size, config.in_channels), 0.7)


@pytest.mark.parametrize("name", GOLDEN)
def test_prediction_is_that_of_the_published_network(name):
    config = narrow(name)
    y, _ = wavy_network(config).forward(wavy_images(config), T)
    pixel, total, square = GOLDEN[name]
    np.testing.assert_allclose(y[1, 5, 7], pixel, rtol=1e-8)
    np.testing.assert_allclose([y.sum(), (y * y).sum()], [total, square], rtol=1e-8)
