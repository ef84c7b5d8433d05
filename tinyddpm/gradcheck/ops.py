"""One case or more for every ``*_backward`` in ``tinyddpm.ops``, in the order of a network."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from tinyddpm.arrays import Array
from tinyddpm.gradcheck.complex_step import Backward, Case, Forward
from tinyddpm.ops.attention import QkvOrder, attention, attention_backward
from tinyddpm.ops.concat import concat, concat_backward
from tinyddpm.ops.conv2d import conv2d, conv2d_backward
from tinyddpm.ops.cross_entropy import cross_entropy, cross_entropy_backward
from tinyddpm.ops.dropout import dropout, dropout_backward
from tinyddpm.ops.embedding import embedding, embedding_backward
from tinyddpm.ops.group_norm import group_norm, group_norm_backward
from tinyddpm.ops.group_norm_silu import group_norm_silu, group_norm_silu_backward
from tinyddpm.ops.linear import linear, linear_backward
from tinyddpm.ops.max_pool import max_pool, max_pool_backward
from tinyddpm.ops.relu import relu, relu_backward
from tinyddpm.ops.scale_shift import scale_shift, scale_shift_backward
from tinyddpm.ops.silu import silu, silu_backward
from tinyddpm.ops.softmax import softmax, softmax_backward
from tinyddpm.ops.time_embedding import EmbeddingOrder, time_embedding, time_embedding_backward
from tinyddpm.ops.upsample import upsample, upsample_backward
from tinyddpm.ops.upsample_conv2d import upsample_conv2d, upsample_conv2d_backward

Draw = Callable[..., Array]


def op_cases(seed: int = 0) -> Iterator[Case]:
    """Yield the cases at points drawn from ``seed``."""
    draw: Draw = np.random.Generator(np.random.Philox(seed)).standard_normal
    inputs = draw((2, 5, 3)), draw((3, 4)), draw(4)
    yield Case("linear", linear, linear_backward, inputs)
    yield _onto("linear, residual", linear, linear_backward, (*inputs, draw((2, 5, 4))))
    square = draw((2, 5, 3)), draw((3, 3)), draw(3)
    yield _with_skip("linear, skip", linear, linear_backward, square)
    yield from _convolutions(draw)
    yield from _elementwise_and_norms(draw)
    yield from _attentions(draw)
    yield from _embeddings(draw)
    labels = np.array([2, 0, 2, 1])
    yield _single("embedding", partial(embedding, labels=labels), embedding_backward, draw((4, 3)))
    yield Case("concat", concat, concat_backward, (draw((2, 3, 2, 4)), draw((2, 3, 2, 3))))
    yield from _classification(draw)


def _convolutions(draw: Draw) -> Iterator[Case]:
    for label, size, stride, pad in (
        ("3x3", 3, 1, (1, 1)),
        ("3x3 stride 2", 3, 2, (1, 1)),
        ("3x3 stride 2, right and bottom", 3, 2, (0, 1)),
        ("1x1", 1, 1, (0, 0)),
    ):
        inputs = draw((2, 6, 8, 3)), draw((size, size, 3, 4)), draw(4)
        forward = partial(conv2d, stride=stride, pad=pad)
        yield Case(f"conv2d {label}", forward, conv2d_backward, inputs)
    onto = draw((2, 4, 3, 5)), draw((3, 3, 5, 2)), draw((2, 2)), draw((2, 4, 3, 2))
    yield _onto("conv2d, biases and residual", conv2d, conv2d_backward, onto)
    inputs = draw((2, 3, 4, 3)), draw((3, 3, 3, 4)), draw(4)
    yield Case("upsample_conv2d", upsample_conv2d, upsample_conv2d_backward, inputs)


def _onto(
    name: str, op: Forward, op_backward: Callable[..., Any], inputs: tuple[Array, ...]
) -> Case:
    """An op that adds the last of its inputs, whose gradient is ``dy``."""

    def forward(x: Array, weight: Array, bias: Array, residual: Array) -> tuple[Array, Any]:
        return op(x, weight, bias, residual=residual)

    return Case(name, forward, lambda dy, saved: (*op_backward(dy, saved), dy), inputs)


def _elementwise_and_norms(draw: Draw) -> Iterator[Case]:
    inputs = draw((2, 4, 3, 6)), draw(6), draw(6)
    norm = partial(group_norm, groups=3, norm_eps=1e-2)
    norm_silu = partial(group_norm_silu, groups=3, norm_eps=1e-2)
    yield Case("group_norm", norm, group_norm_backward, inputs)
    yield _single("silu", silu, silu_backward, draw((3, 4)))
    yield Case("group_norm_silu", norm_silu, group_norm_silu_backward, inputs)
    of_images = draw((2, 4, 3, 6)), draw((2, 6)), draw((2, 6))
    yield Case("group_norm of images", norm, group_norm_backward, of_images)
    yield Case("group_norm_silu of images", norm_silu, group_norm_silu_backward, of_images)
    yield _with_skip("group_norm, skip", norm, group_norm_backward, inputs)
    yield _with_skip("group_norm_silu, skip", norm_silu, group_norm_silu_backward, inputs)
    inputs = draw((2, 4, 3, 5)), draw((2, 5)), draw((2, 5))
    yield Case("scale_shift", scale_shift, scale_shift_backward, inputs)
    keep = draw((2, 4, 3, 5)) > -0.5
    yield _single(
        "dropout", partial(dropout, keep=keep, rate=0.3), dropout_backward, draw(keep.shape)
    )
    yield _single(
        "upsample",
        lambda x: (upsample(x), None),
        lambda dy, _: upsample_backward(dy),
        draw((2, 3, 2, 4)),
    )


def _with_skip(
    name: str, op: Forward, op_backward: Callable[..., Any], inputs: tuple[Array, ...]
) -> Case:
    """An op whose input is added to its output: the backward's ``dskip`` is dy."""

    def forward(x: Array, weight: Array, bias: Array) -> tuple[Array, Any]:
        y, saved = op(x, weight, bias)
        return y + x, saved

    return Case(name, forward, lambda dy, saved: op_backward(dy, saved, dy), inputs)


def _attentions(draw: Draw) -> Iterator[Case]:
    yield _single("softmax", softmax, softmax_backward, draw((3, 5)))
    orders: tuple[QkvOrder, ...] = ("qkv first", "heads first")
    for order in orders:
        forward = partial(attention, heads=2, qkv_order=order)
        yield _single(f"attention, {order}", forward, attention_backward, draw((2, 5, 18)))


def _embeddings(draw: Draw) -> Iterator[Case]:
    orders: tuple[tuple[EmbeddingOrder, int], ...] = (("sin|cos", 1), ("cos|sin", 0))
    for order, shift in orders:
        forward = partial(time_embedding, dim=8, order=order, shift=shift)
        name = f"time_embedding {order}, shift {shift}"
        yield _single(name, forward, time_embedding_backward, 5 + draw(4))


def _classification(draw: Draw) -> Iterator[Case]:
    yield _single("relu", relu, relu_backward, draw((3, 4)))
    yield _single("max_pool", max_pool, max_pool_backward, draw((2, 4, 6, 3)))
    entropy = partial(cross_entropy, labels=np.array([2, 0, 4, 4]))
    yield _single("cross_entropy", entropy, cross_entropy_backward, draw((4, 5)))


def _single(name: str, forward: Forward, backward: Callable[[Array, Any], Array], x: Array) -> Case:
    """A case of one input, whose backward returns the gradient itself."""

    def in_a_tuple(dy: Array, saved: Any) -> tuple[Array]:
        return (backward(dy, saved),)

    as_tuple: Backward = in_a_tuple
    return Case(name, forward, as_tuple, (x,))
