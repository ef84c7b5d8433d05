"""The operations counted from a config are those of the products that the network computes."""

from dataclasses import replace

import numpy as np
import pytest
from small_runs import narrow

from tinyddpm.benchmark.flops import Products, forward_products
from tinyddpm.nn.config import PRESETS
from tinyddpm.nn.unet import UNet
from tinyddpm.ops.kernels import reference


def operations_seen(config):
    """Those of the forward of one image, from the shapes that pass through the reference ops."""
    seen = dict.fromkeys(Products._fields, 0)

    def convolution(name):
        def counted(x, weight, bias, **options):
            y, saved = getattr(reference, name)(x, weight, bias, **options)
            seen[name] += 2 * y.size * weight[..., 0].size
            return y, saved

        return counted

    def linear(x, weight, bias, **options):
        y, saved = reference.linear(x, weight, bias, **options)
        seen["linear"] += 2 * y.size * len(weight)
        return y, saved

    def attention(qkv, **options):
        y, saved = reference.attention(qkv, **options)
        q, k, v = np.split(qkv, 3, axis=2)
        seen["attention"] += 2 * (q[0] @ k[0].T).size * q.shape[2] + 2 * y.size * v.shape[1]
        return y, saved

    table = replace(
        reference,
        conv2d=convolution("conv2d"),
        upsample_conv2d=convolution("upsample_conv2d"),
        linear=linear,
        attention=attention,
    )
    shape = (1, config.image_size, config.image_size, config.in_channels)
    UNet(config, kernels=table).forward(np.zeros(shape, np.float32), np.zeros(1))
    return seen


@pytest.mark.parametrize("preset", PRESETS)
def test_the_count_is_what_the_network_does(preset):
    config = narrow(preset)
    assert forward_products(config)._asdict() == operations_seen(config)


@pytest.mark.parametrize(
    "changes",
    [
        {"blocks": 3},
        {"attention_at": ()},
        {"attention_at": (28, 14, 7), "heads": 2},
        {"conditioning": "scale-shift"},
        {"in_channels": 3, "out_channels": 6},
        {"channels": (8,), "image_size": 8, "attention_at": (8,)},
    ],
    ids=str,
)
def test_the_count_follows_the_shape(changes):
    config = narrow("mnist", **changes)
    assert forward_products(config)._asdict() == operations_seen(config)


@pytest.mark.parametrize(
    ("preset", "giga"), [("mnist-1.7m", 0.6357), ("cifar10", 12.44), ("cifar10-improved", 16.77)]
)
def test_the_networks_in_full(preset, giga):
    """6.22 and 8.39 GMAC an image for the two of CIFAR-10."""
    assert forward_products(PRESETS[preset]).total / 1e9 == pytest.approx(giga, rel=1e-3)
