"""The published networks to the last parameter, and what the count cannot see: the heads, where
attention stands, and what the decoder joins."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from networks import images, narrow, random_network

from tinyddpm.nn.config import PRESETS, UNetConfig
from tinyddpm.nn.unet import UNet
from tinyddpm.ops.attention import attention
from tinyddpm.ops.concat import concat
from tinyddpm.ops.kernels import reference

COUNTS = {
    "glyphs": 176_849,
    "mnist": 280_177,
    "mnist-1.7m": 1_707_009,
    "cifar10": 35_746_307,
    "cifar10-improved": 52_546_438,
}

# (tokens, channels, heads, order of q, k and v): how often; the middle block is one of each.
ATTENTIONS = {
    "glyphs": {(8 * 8, 32, 1, "qkv first"): 1 + 1 + 2},
    "mnist": {(7 * 7, 32, 1, "qkv first"): 1 + 1 + 2},
    "mnist-1.7m": {
        (14 * 14, 64, 8, "qkv first"): 2 + 3,
        (7 * 7, 64, 8, "qkv first"): 2 + 1 + 3,
    },
    "cifar10": {(16 * 16, 256, 1, "qkv first"): 2 + 3, (4 * 4, 256, 1, "qkv first"): 1},
    "cifar10-improved": {
        (16 * 16, 256, 4, "heads first"): 3 + 4,
        (8 * 8, 256, 4, "heads first"): 3 + 4,
        (4 * 4, 256, 4, "heads first"): 1,
    },
}


def blank(name, **options):
    """The preset's network at full width; its values are zeros, as drawing them would be slow."""
    return UNet(PRESETS[name], values=np.zeros(COUNTS[name], np.float32), **options)


def test_every_preset_is_tested_here():
    assert list(COUNTS) == list(ATTENTIONS) == list(PRESETS)


@pytest.mark.parametrize("name", PRESETS)
def test_parameter_count(name):
    assert blank(name).parameters.count == COUNTS[name]


@pytest.mark.parametrize("name", PRESETS)
def test_attention_stands_where_it_should_with_the_published_heads(name):
    calls = Counter()

    def spy(qkv, *, heads, qkv_order):
        _, tokens, triple = qkv.shape
        calls[tokens, triple // 3, heads, qkv_order] += 1
        return attention(qkv, heads=heads, qkv_order=qkv_order)

    network = blank(name, kernels=replace(reference, attention=spy))
    network.forward(images(PRESETS[name], 1, dtype=np.float32), np.array([1]))
    assert calls == ATTENTIONS[name]


def test_the_switches_of_the_published_families():
    course, ho, improved = (
        UNetConfig.preset(name) for name in ("mnist-1.7m", "cifar10", "cifar10-improved")
    )
    assert (course.norm_eps, ho.norm_eps, improved.norm_eps) == (1e-5, 1e-6, 1e-5)
    assert (course.embedding_order, course.embedding_shift) == ("cos|sin", 0)
    assert (ho.embedding_order, ho.embedding_shift) == ("sin|cos", 1)
    assert (improved.embedding_order, improved.embedding_shift) == ("cos|sin", 0)
    assert (course.down_pad, ho.down_pad, improved.down_pad) == ((1, 1), (0, 1), (1, 1))
    assert (course.dropout, ho.dropout, improved.dropout) == (0.0, 0.1, 0.3)
    assert (course.conditioning, ho.conditioning) == ("add", "add")
    assert improved.conditioning == "scale-shift"
    assert improved.out_channels == 2 * improved.in_channels  # ε and the variance
    assert improved.time_scale == 1000 / 4000
    assert {config.groups for config in (course, ho, improved)} == {32}


def test_widths_of_the_decoder_in_the_network_of_ho_et_al():
    """Its widths are [h | skip] → h; the published checkpoint has them so."""
    named = blank("cifar10").parameters.named()
    joined = {
        level: [named[f"up.{level}.{i}.conv1.weight"].shape[2:] for i in range(3)]
        for level in range(4)
    }
    assert joined == {
        3: [(512, 256), (512, 256), (512, 256)],
        2: [(512, 256), (512, 256), (512, 256)],
        1: [(512, 256), (512, 256), (384, 256)],
        0: [(384, 128), (256, 128), (256, 128)],
    }


@pytest.mark.parametrize("name", PRESETS)
def test_the_decoder_joins_every_output_of_the_encoder_in_reverse(name):
    joined = []

    def spy(h, skip):
        joined.append(skip)
        return concat(h, skip)

    network = random_network(narrow(name))
    for level in network.up:
        level.kernels = replace(level.kernels, concat=spy)
    x, t = images(network.config, 1), np.array([3.0])
    network.forward(x, t)

    emb, _ = network.embedding.forward(t, None, t)
    h, _ = network.conv_in.forward(x)
    outputs = [h]
    for level in network.down:
        for stage in level.stages:
            h, _ = stage.forward(h, emb, None)
            outputs.append(h)
        if level.downsample:
            h, _ = level.downsample.forward(h)
            outputs.append(h)
    levels, blocks = len(network.config.channels), network.config.blocks
    assert len(joined) == len(outputs) == levels * (blocks + 1)
    for skip, output in zip(joined, reversed(outputs), strict=True):
        np.testing.assert_array_equal(skip, output)


@pytest.mark.parametrize("name", PRESETS)
def test_the_prediction_has_the_size_of_the_image(name):
    network = UNet(narrow(name))
    y, _ = network.forward(images(network.config, 2, dtype=np.float32), np.array([0, 999]))
    size, channels = network.config.image_size, network.config.out_channels
    assert y.shape == (2, size, size, channels)
    assert y.dtype == np.float32
