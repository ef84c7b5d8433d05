"""Our network against a second derivation of improved-diffusion's in PyTorch with the same values:
output and every gradient.
"""

from dataclasses import replace

import numpy as np
import pytest
from networks import images, narrow, random_network

from tinyddpm.nn.unet import UNet

torch = pytest.importorskip("torch")

from improved_torch import Improved  # noqa: E402  needs torch
from peers import (  # noqa: E402  needs torch
    Layout,
    T,
    assert_same_network,
    channels_first,
    channels_last,
    copy_values,
)

pytestmark = pytest.mark.peer


def layout_of(network):
    """Our names under those of the published checkpoints."""
    layout, config = Layout(network.parameters), network.config
    layout.linear("time_embed.0", "time.hidden")
    layout.linear("time_embed.2", "time.out")
    layout.conv("input_blocks.0.0", "conv_in")
    deepest, down_stride = len(config.channels) - 1, config.blocks + 1
    for level in range(deepest + 1):
        for i in range(config.blocks):
            _stage(layout, f"input_blocks.{1 + level * down_stride + i}", f"down.{level}.{i}")
        if level < deepest:
            after = f"input_blocks.{(level + 1) * down_stride}"
            layout.conv(f"{after}.0.op", f"down.{level}.downsample")
        first = (deepest - level) * (config.blocks + 1)
        for i in range(config.blocks + 1):
            _stage(layout, f"output_blocks.{first + i}", f"up.{level}.{i}")
        if level > 0:
            part = 2 if layout.has(f"up.{level}.0.attention.out") else 1
            last = f"output_blocks.{first + config.blocks}"
            layout.conv(f"{last}.{part}.conv", f"up.{level}.upsample")
    _stage(layout, "middle_block", "middle.0")
    _res_block(layout, "middle_block.2", "middle.1")
    layout.vectors("out.0", "norm_out")
    layout.conv("out.2", "conv_out")
    return layout


def _stage(layout, theirs, mine):
    _res_block(layout, f"{theirs}.0", mine)
    if layout.has(f"{mine}.attention.out"):
        layout.vectors(f"{theirs}.1.norm", f"{mine}.attention.norm")
        layout.linear_as_conv1d(f"{theirs}.1.qkv", f"{mine}.attention.qkv")
        layout.linear_as_conv1d(f"{theirs}.1.proj_out", f"{mine}.attention.out")


def _res_block(layout, theirs, mine):
    layout.vectors(f"{theirs}.in_layers.0", f"{mine}.norm1")
    layout.conv(f"{theirs}.in_layers.2", f"{mine}.conv1")
    layout.linear(f"{theirs}.emb_layers.1", f"{mine}.time")
    layout.vectors(f"{theirs}.out_layers.0", f"{mine}.norm2")
    layout.conv(f"{theirs}.out_layers.3", f"{mine}.conv2")
    if layout.has(f"{mine}.shortcut"):
        layout.conv(f"{theirs}.skip_connection", f"{mine}.shortcut")


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"blocks": 1, "heads": 2},
        {"image_size": 16, "channels": (8, 16, 8), "attention_at": (16,), "out_channels": 3},
    ],
    ids=["as published", "one block a level", "attention at full size"],
)
def test_output_and_all_gradients_are_those_of_improved_diffusion(changes):
    network = random_network(narrow("cifar10-improved", **changes))
    module = Improved(network.config).double()
    assert_same_network(layout_of(network), network, module, images(network.config, 2))


@pytest.mark.parametrize(
    "change",
    [
        {"qkv_order": "qkv first"},
        {"heads": 2},
        {"embedding_order": "sin|cos"},
        {"embedding_shift": 1},
        {"time_scale": 1.0},
        {"norm_eps": 1e-6},
        {"down_pad": (0, 1)},
    ],
    ids=lambda change: next(iter(change)),
)
def test_each_switch_of_the_family_matters(change):
    """With one switch in the other position the same parameters make another network."""
    right = random_network(narrow("cifar10-improved"))
    module, x = Improved(right.config).double(), images(right.config, 2)
    copy_values(layout_of(right), right, module)
    theirs = channels_last(module(channels_first(x), torch.from_numpy(T)))
    wrong = UNet(replace(right.config, **change), values=right.parameters.value)
    y, _ = wrong.forward(x, T)
    assert np.abs(y - theirs).max() > 1e-7 * np.abs(theirs).max()


def test_the_published_network_has_as_many_parameters():
    """tests/nn/test_presets.py holds our side to the same number."""
    config = replace(
        narrow("cifar10-improved"), channels=(128, 256, 256, 256), groups=32, dropout=0.3
    )
    with torch.device("meta"):
        shapes = [p.shape for p in Improved(config).parameters()]
    assert (len(shapes), sum(shape.numel() for shape in shapes)) == (446, 52_546_438)
