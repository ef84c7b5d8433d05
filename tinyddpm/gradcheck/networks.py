"""Cases for the blocks and for the whole U-Net: the inputs are x, the condition, and the
parameters.

A block's backward adds to flat gradients; here it is turned into a function of the flat values. All
parameters are drawn at random, including those that training starts at zero: no gradient would pass
a last convolution of zeros, and the certificate of what stands before it would be vacuous.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from tinyddpm.arrays import Array, IntArray
from tinyddpm.gradcheck.complex_step import Case
from tinyddpm.nn.blocks import AttentionBlock, Downsample, ResBlock, Upsample
from tinyddpm.nn.config import UNetConfig
from tinyddpm.nn.embedding import EmbeddingMlp
from tinyddpm.nn.layers import Builder
from tinyddpm.nn.masks import DropoutMasks
from tinyddpm.nn.parameters import Parameters
from tinyddpm.nn.unet import UNet
from tinyddpm.ops.kernels import reference

ADD = UNetConfig(
    image_size=8,
    in_channels=2,
    out_channels=2,
    channels=(4, 8),
    blocks=1,
    attention_at=(4,),
    heads=2,
    groups=2,
    norm_eps=1e-2,
    dropout=0.2,
)
SCALE_SHIFT = replace(
    ADD,
    out_channels=4,
    conditioning="scale-shift",
    qkv_order="heads first",
    embedding_order="sin|cos",
    embedding_shift=1,
    down_pad=(0, 1),
    time_scale=0.25,
    classes=3,
)
LABELS = np.array([1, 3])  # a class, and the null label
MASKS = DropoutMasks(seed=1, step=1, samples=np.arange(2))

# forward(inputs…) -> (y, saved), backward(dy, saved) -> gradients of the inputs
Pass = tuple[Callable[..., tuple[Array, Any]], Callable[[Array, Any], tuple[Array, ...]]]


def network_cases(seed: int = 0) -> Iterator[Case]:
    """Yield the cases of every block, then of the U-Net in both families."""
    draw = np.random.Generator(np.random.Philox(seed)).standard_normal
    x, emb = draw((2, 4, 4, 4)), draw((2, 16))
    for config in (ADD, SCALE_SHIFT):
        name = f"ResBlock, {config.conditioning}"
        yield _block_case(name, partial(_res_block, config=config), (x, emb), draw)
    yield _block_case("AttentionBlock", _attention_block, (x,), draw)
    yield _block_case("Downsample", _downsample, (x,), draw)
    yield _block_case("Upsample", _upsample, (x,), draw)
    yield _block_case("EmbeddingMlp", _embedding_mlp, (), draw)
    for config in (ADD, SCALE_SHIFT):
        name = f"UNet, {config.conditioning}, all parameters"
        yield unet_case(name, config, draw((2, 8, 8, 2)), np.array([3, 700]), draw)


def unet_case(
    name: str, config: UNetConfig, x: Array, t: IntArray, draw: Callable[..., Array]
) -> Case:
    """The whole network as a function of its image and of its flat parameters."""
    count = UNet(config).parameters.count

    def forward(x: Array, values: Array) -> tuple[Array, Any]:
        network = UNet(config, values=values)
        labels = LABELS if config.classes else None
        y, saved = network.forward(x, t, labels=labels, masks=MASKS)
        return y, (network, saved)

    def backward(dy: Array, saved: Any) -> tuple[Array, ...]:
        network, inner = saved
        network.parameters.grad[...] = 0
        dx = network.backward(dy, inner)
        return dx, network.parameters.grad

    return Case(name, forward, backward, (x, 0.3 * draw(count)))


def _block_case(
    name: str,
    make: Callable[[Builder], Pass],
    inputs: tuple[Array, ...],
    draw: Callable[..., Array],
) -> Case:
    counting = Parameters()
    make(Builder(counting, reference))

    def forward(*args: Array) -> tuple[Array, Any]:
        parameters = Parameters()
        block_forward, block_backward = make(Builder(parameters, reference))
        parameters.bind(args[-1])
        y, saved = block_forward(*args[:-1])
        return y, (parameters, block_backward, saved)

    def backward(dy: Array, saved: Any) -> tuple[Array, ...]:
        parameters, block_backward, inner = saved
        parameters.grad[...] = 0
        return *block_backward(dy, inner), parameters.grad

    return Case(name, forward, backward, (*inputs, 0.3 * draw(counting.count)))


def _res_block(build: Builder, *, config: UNetConfig) -> Pass:
    block = ResBlock(build, "block", 4, 8, config, site=1)
    return lambda x, emb: block.forward(x, emb, MASKS), block.backward


def _attention_block(build: Builder) -> Pass:
    block = AttentionBlock(build, "block", 4, ADD)
    return block.forward, lambda dy, saved: (block.backward(dy, saved),)


def _downsample(build: Builder) -> Pass:
    block = Downsample(build, "block", 4, ADD)
    return block.forward, lambda dy, saved: (block.backward(dy, saved),)


def _upsample(build: Builder) -> Pass:
    block = Upsample(build, "block", 4)
    return block.forward, lambda dy, saved: (block.backward(dy, saved),)


def _embedding_mlp(build: Builder) -> Pass:
    block = EmbeddingMlp(build, SCALE_SHIFT)

    def backward(demb: Array, saved: Any) -> tuple[()]:
        block.backward(demb, saved)
        return ()

    times, like = np.array([0.5, 700.0]), np.zeros(1)
    return lambda: block.forward(times, LABELS, like), backward
