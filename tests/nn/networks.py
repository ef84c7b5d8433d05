"""What the tests of networks share: narrow shapes, and networks with nothing zero in them."""

import math
from dataclasses import replace

import numpy as np

from tinyddpm.nn.config import UNetConfig
from tinyddpm.nn.unet import UNet

WIDTHS = {2: (8, 16), 3: (8, 16, 16), 4: (8, 16, 16, 16)}


def narrow(preset, **changes):
    """The preset with all its switches, on few channels and without dropout."""
    config = UNetConfig.preset(preset)
    heads = min(config.heads, 4)
    channels = WIDTHS[len(config.channels)]
    settings = {"channels": channels, "groups": 4, "heads": heads, "dropout": 0.0} | changes
    return replace(config, **settings)


def random_network(config, seed=0, dtype=np.float64, **options):
    """All parameters N(0, 1/fan_in), those that training starts at zero or one too."""
    network = UNet(config, dtype=dtype, **options)
    random = np.random.default_rng(seed)
    for parameter in network.parameters:
        scale = math.prod(parameter.shape[:-1]) ** -0.5
        parameter.value[...] = scale * random.standard_normal(parameter.shape)
    return network


def images(config, n, seed=0, dtype=np.float64):
    shape = (n, config.image_size, config.image_size, config.in_channels)
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)
