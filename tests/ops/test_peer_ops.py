"""Every op against PyTorch's in float64, forward and gradients, over drawn shapes."""

from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinyddpm.ops.attention import attention, attention_backward
from tinyddpm.ops.conv2d import conv2d, conv2d_backward
from tinyddpm.ops.group_norm import group_norm, group_norm_backward
from tinyddpm.ops.group_norm_silu import group_norm_silu, group_norm_silu_backward
from tinyddpm.ops.linear import linear, linear_backward
from tinyddpm.ops.silu import silu, silu_backward
from tinyddpm.ops.softmax import softmax, softmax_backward
from tinyddpm.ops.upsample import upsample, upsample_backward

torch = pytest.importorskip("torch")
F = torch.nn.functional

pytestmark = pytest.mark.peer
few = settings(max_examples=40)
counts, widths, sides = st.integers(1, 3), st.integers(1, 5), st.integers(1, 7)
seeds = st.integers(0, 2**32 - 1)


def assert_agrees(forward, backward, theirs, *shapes, seed):
    """``theirs`` maps tensors of the same layout as ``forward``'s arrays."""
    random = np.random.default_rng(seed)
    inputs = [random.standard_normal(shape) for shape in shapes]
    y, saved = forward(*inputs)
    dy = random.standard_normal(y.shape)
    grads = backward(dy, saved)
    grads = grads if isinstance(grads, tuple) else (grads,)

    leaves = [torch.tensor(x, requires_grad=True) for x in inputs]
    their_y = theirs(*leaves)
    their_y.backward(torch.tensor(dy))
    assert_close(y, their_y.detach().numpy())
    assert len(grads) == len(leaves)
    for grad, leaf in zip(grads, leaves, strict=True):
        assert_close(grad, leaf.grad.numpy())


def assert_close(mine, theirs):
    """Both are sums of standard normals: the rounding grows with the sums, not with the values."""
    assert mine.shape == theirs.shape
    bound = 1e-12 * max(1.0, np.abs(theirs).max())
    np.testing.assert_allclose(mine, theirs, rtol=0, atol=bound)


def first(x):
    return x.permute(0, 3, 1, 2)


def last(x):
    return x.permute(0, 2, 3, 1)


@few
@given(n=counts, side=sides, c_in=widths, c_out=widths, seed=seeds)
def test_linear(n, side, c_in, c_out, seed):
    assert_agrees(
        linear,
        linear_backward,
        lambda x, weight, bias: F.linear(x, weight.T, bias),
        (n, side, c_in),
        (c_in, c_out),
        (c_out,),
        seed=seed,
    )


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(
    ("size", "pad"), [(3, (1, 1)), (3, (0, 1)), (3, (1, 0)), (3, (0, 0)), (1, (0, 0)), (5, (2, 1))]
)
@given(
    n=counts,
    height=st.integers(5, 9),
    width=st.integers(5, 9),
    c_in=widths,
    c_out=widths,
    seed=seeds,
)
@settings(max_examples=10)
def test_conv2d(size, stride, pad, n, height, width, c_in, c_out, seed):
    def theirs(x, weight, bias):
        padded = F.pad(first(x), (*pad, *pad))
        kernel = weight.permute(3, 2, 0, 1).contiguous()
        return last(F.conv2d(padded, kernel, bias, stride=stride))

    assert_agrees(
        partial(conv2d, stride=stride, pad=pad),
        conv2d_backward,
        theirs,
        (n, height, width, c_in),
        (size, size, c_in, c_out),
        (c_out,),
        seed=seed,
    )


@pytest.mark.parametrize("act", [False, True], ids=["alone", "with silu"])
@few
@given(
    n=counts,
    height=sides,
    width=st.integers(2, 7),  # torch refuses one value per channel
    groups=st.integers(1, 4),
    per_group=st.integers(1, 4),
    norm_eps=st.sampled_from([1e-6, 1e-5, 1e-2]),
    seed=seeds,
)
def test_group_norm(act, n, height, width, groups, per_group, norm_eps, seed):
    channels = groups * per_group
    if height * width * per_group < 4:
        norm_eps = 1e-2  # the variance of two or three values can be tiny, and r then 1/√norm_eps

    def theirs(x, weight, bias):
        y = last(F.group_norm(first(x), groups, weight, bias, eps=norm_eps))
        return F.silu(y) if act else y

    ours = (group_norm_silu, group_norm_silu_backward) if act else (group_norm, group_norm_backward)
    assert_agrees(
        partial(ours[0], groups=groups, norm_eps=norm_eps),
        ours[1],
        theirs,
        (n, height, width, channels),
        (channels,),
        (channels,),
        seed=seed,
    )


@few
@given(n=counts, side=sides, scale=st.sampled_from([1e-3, 1.0, 30.0, 1e3]), seed=seeds)
def test_silu(n, side, scale, seed):
    def scaled(x):
        return silu(scale * x)

    def scaled_backward(dy, saved):
        return scale * silu_backward(dy, saved)

    assert_agrees(scaled, scaled_backward, lambda x: F.silu(scale * x), (n, side), seed=seed)


@few
@given(n=counts, tokens=sides, seed=seeds)
def test_softmax(n, tokens, seed):
    shape = (n, 2, tokens)
    assert_agrees(softmax, softmax_backward, lambda x: F.softmax(x, dim=-1), shape, seed=seed)


@pytest.mark.parametrize("order", ["qkv first", "heads first"])
@few
@given(
    n=counts, tokens=st.integers(1, 9), heads=st.integers(1, 4), width=st.integers(1, 6), seed=seeds
)
def test_attention(order, n, tokens, heads, width, seed):
    def theirs(qkv):
        if order == "qkv first":
            q, k, v = qkv.unflatten(2, (3, heads, width)).permute(2, 0, 3, 1, 4)
        else:
            q, k, v = qkv.unflatten(2, (heads, 3, width)).permute(3, 0, 2, 1, 4)
        return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)

    assert_agrees(
        partial(attention, heads=heads, qkv_order=order),
        attention_backward,
        theirs,
        (n, tokens, 3 * heads * width),
        seed=seed,
    )


@few
@given(n=counts, height=sides, width=sides, channels=widths, seed=seeds)
def test_upsample(n, height, width, channels, seed):
    assert_agrees(
        lambda x: (upsample(x), None),
        lambda dy, _: upsample_backward(dy),
        lambda x: last(F.interpolate(first(x), scale_factor=2, mode="nearest")),
        (n, height, width, channels),
        seed=seed,
    )
