"""Our network against diffusers' UNet2DModel with the same values: output and every gradient."""

import numpy as np
import pytest
from networks import images, narrow, random_network

from tinyddpm.nn.config import UNetConfig
from tinyddpm.ops.time_embedding import time_embedding

torch = pytest.importorskip("torch")
diffusers = pytest.importorskip("diffusers")

from peers import Layout, T, assert_same_network  # noqa: E402  needs torch

pytestmark = [
    pytest.mark.peer,
    pytest.mark.filterwarnings("ignore"),  # diffusers' imports and deprecations are not ours
]

COURSE = {
    "sample_size": 28,
    "in_channels": 1,
    "out_channels": 1,
    "layers_per_block": 2,
    "block_out_channels": (32, 64, 64),
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"),
    "up_block_types": ("AttnUpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
}
# google/ddpm-cifar10-32, with fewer channels and groups
HO = {
    "sample_size": 32,
    "layers_per_block": 2,
    "block_out_channels": (8, 16, 16, 16),
    "norm_num_groups": 4,
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D", "DownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "UpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
    "attention_head_dim": None,
    "downsample_padding": 0,
    "norm_eps": 1e-6,
    "flip_sin_to_cos": False,
    "freq_shift": 1,
}
# attn_norm_num_groups: without it diffusers leaves out the norm of the middle's attention
SCALE_SHIFT = HO | {"resnet_time_scale_shift": "scale_shift", "attn_norm_num_groups": 4}

HO_IN_FULL = HO | {"block_out_channels": (128, 256, 256, 256), "norm_num_groups": 32}

NETWORKS = {
    "course": (COURSE, UNetConfig.preset("mnist-1.7m")),
    "Ho et al.": (HO, narrow("cifar10")),
    "scale-shift": (SCALE_SHIFT, narrow("cifar10", conditioning="scale-shift")),
}


class DoubleTime(torch.nn.Module):
    """diffusers' time embedding, which it computes in float32 whatever the network, in float64."""

    def __init__(self, dim, *, cos_first, shift):
        super().__init__()
        self.half, self.cos_first, self.shift = dim // 2, cos_first, shift

    def forward(self, t):
        exponents = torch.arange(self.half, dtype=torch.float64) / (self.half - self.shift)
        angle = t.double()[:, None] * 10000.0**-exponents
        halves = [torch.sin(angle), torch.cos(angle)]
        return torch.cat(halves[::-1] if self.cos_first else halves, dim=1)


class Peer(torch.nn.Module):
    """The network of diffusers in float64, with the embedding in float64 too."""

    def __init__(self, settings):
        super().__init__()
        self.unet = diffusers.UNet2DModel(**settings).double()
        config = self.unet.config
        self.unet.time_proj = DoubleTime(
            config.block_out_channels[0], cos_first=config.flip_sin_to_cos, shift=config.freq_shift
        )

    def forward(self, x, t):
        return self.unet(x, t).sample

    def named_parameters(self, *_, **__):
        return self.unet.named_parameters()


def layout_of(network):
    layout, config = Layout(network.parameters), network.config
    layout.linear("time_embedding.linear_1", "time.hidden")
    layout.linear("time_embedding.linear_2", "time.out")
    layout.conv("conv_in", "conv_in")
    layout.vectors("conv_norm_out", "norm_out")
    layout.conv("conv_out", "conv_out")
    deepest = len(config.channels) - 1
    for level in range(deepest + 1):
        down, up = f"down_blocks.{level}", f"up_blocks.{deepest - level}"
        for i in range(config.blocks):
            _stage(layout, down, i, f"down.{level}.{i}")
        for i in range(config.blocks + 1):
            _stage(layout, up, i, f"up.{level}.{i}")
        if level < deepest:
            layout.conv(f"{down}.downsamplers.0.conv", f"down.{level}.downsample")
        if level > 0:
            layout.conv(f"{up}.upsamplers.0.conv", f"up.{level}.upsample")
    for i in range(2):
        _stage(layout, "mid_block", i, f"middle.{i}")
    return layout


def _stage(layout, block, i, mine):
    theirs = f"{block}.resnets.{i}"
    layout.vectors(f"{theirs}.norm1", f"{mine}.norm1")
    layout.conv(f"{theirs}.conv1", f"{mine}.conv1")
    layout.linear(f"{theirs}.time_emb_proj", f"{mine}.time")
    layout.vectors(f"{theirs}.norm2", f"{mine}.norm2")
    layout.conv(f"{theirs}.conv2", f"{mine}.conv2")
    if layout.has(f"{mine}.shortcut"):
        layout.conv(f"{theirs}.conv_shortcut", f"{mine}.shortcut")
    if layout.has(f"{mine}.attention.out"):
        _attention(layout, f"{block}.attentions.{i}", f"{mine}.attention")


def _attention(layout, theirs, mine):
    layout.vectors(f"{theirs}.group_norm", f"{mine}.norm")
    channels = len(layout.mine[f"{mine}.qkv.weight"])
    for part, name in enumerate(("to_q", "to_k", "to_v")):
        columns = slice(part * channels, (part + 1) * channels)
        layout.linear(f"{theirs}.{name}", f"{mine}.qkv", columns)
    layout.linear(f"{theirs}.to_out.0", f"{mine}.out")


@pytest.mark.parametrize("name", NETWORKS)
def test_output_and_all_gradients_are_those_of_diffusers(name):
    settings, config = NETWORKS[name]
    network = random_network(config)
    assert_same_network(layout_of(network), network, Peer(settings), images(config, 2))


@pytest.mark.parametrize("name", NETWORKS)
def test_the_time_embedding_is_that_of_diffusers(name):
    settings, config = NETWORKS[name]
    t = np.array([0, *T, 999])
    theirs = diffusers.UNet2DModel(**settings).time_proj(torch.from_numpy(t)).numpy()
    mine, _ = time_embedding(
        t.astype(np.float64),
        dim=config.channels[0],
        order=config.embedding_order,
        shift=config.embedding_shift,
    )
    np.testing.assert_allclose(mine, theirs, atol=2e-4)  # float32 angles of up to 999


def test_the_course_network_starts_with_nothing_zero_like_ours():
    module = diffusers.UNet2DModel(**COURSE)
    zero = {name for name, p in module.named_parameters() if not p.any()}
    assert all("norm" in name and name.endswith(".bias") for name in zero)
    assert not UNetConfig.preset("mnist-1.7m").zero_init


def test_the_published_network_has_as_many_parameters():
    """tests/nn/test_presets.py holds our side to the same number."""
    with torch.device("meta"):
        shapes = [p.shape for p in diffusers.UNet2DModel(**HO_IN_FULL).parameters()]
    assert (len(shapes), sum(shape.numel() for shape in shapes)) == (328, 35_746_307)
