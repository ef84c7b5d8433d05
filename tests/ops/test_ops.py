"""Ops against independent definitions, over drawn shapes and dtypes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyddpm.gradcheck.ops import op_cases
from tinyddpm.ops.attention import attention
from tinyddpm.ops.conv2d import conv2d
from tinyddpm.ops.dropout import dropout
from tinyddpm.ops.group_norm import group_norm
from tinyddpm.ops.silu import silu
from tinyddpm.ops.softmax import softmax
from tinyddpm.ops.time_embedding import time_embedding
from tinyddpm.ops.upsample import upsample


def random(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape)


@pytest.mark.parametrize("case", list(op_cases()), ids=lambda case: case.name)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_dtype_in_is_dtype_out(case, dtype):
    inputs = [x.astype(dtype) for x in case.inputs]
    y, saved = case.forward(*inputs)
    assert y.dtype == dtype
    assert [g.dtype for g in case.backward(y, saved)] == [dtype] * len(inputs)


@given(
    n=st.integers(1, 3),
    height=st.integers(1, 7),
    width=st.integers(1, 7),
    c_in=st.integers(1, 3),
    c_out=st.integers(1, 3),
    size=st.sampled_from([1, 3]),
    stride=st.integers(1, 2),
    before=st.integers(0, 1),
)
def test_conv2d_is_its_definition(n, height, width, c_in, c_out, size, stride, before):
    pad = (before, 1) if size == 3 else (0, 0)
    if min(height, width) + sum(pad) < size:
        return
    x, w, b = (
        random(0, n, height, width, c_in),
        random(1, size, size, c_in, c_out),
        random(2, c_out),
    )
    y, _ = conv2d(x, w, b, stride=stride, pad=pad)
    for index in np.ndindex(*y.shape):
        image, i, j, o = index
        total = b[o]
        for a, e, c in np.ndindex(size, size, c_in):
            row, column = stride * i + a - pad[0], stride * j + e - pad[0]
            if 0 <= row < height and 0 <= column < width:
                total += x[image, row, column, c] * w[a, e, c, o]
        assert y[index] == pytest.approx(total, abs=1e-12)


@given(groups=st.sampled_from([1, 2, 3, 6]), scale=st.floats(0.1, 10), shift=st.floats(-10, 10))
def test_group_norm_does_not_see_an_affine_change_of_its_input(groups, scale, shift):
    x, ones, zeros = random(0, 2, 5, 4, 6), np.ones(6), np.zeros(6)
    y, _ = group_norm(x, ones, zeros, groups=groups, norm_eps=0)
    z, _ = group_norm(scale * x + shift, ones, zeros, groups=groups, norm_eps=0)
    np.testing.assert_allclose(z, y, atol=1e-9)
    per_group = y.reshape(2, 20, groups, -1)
    np.testing.assert_allclose(per_group.mean(axis=(1, 3)), 0, atol=1e-12)
    np.testing.assert_allclose(per_group.var(axis=(1, 3)), 1, atol=1e-12)


def test_group_norm_refuses_groups_that_do_not_divide():
    with pytest.raises(ValueError, match="C=6, groups=4"):
        group_norm(random(0, 1, 2, 2, 6), np.ones(6), np.zeros(6), groups=4)


@pytest.mark.parametrize("order", ["qkv first", "heads first"])
def test_attention_is_its_definition_head_by_head(order):
    n, tokens, heads, width = 2, 5, 3, 4
    qkv = random(0, n, tokens, 3 * heads * width)
    y, _ = attention(qkv, heads=heads, qkv_order=order)
    for image in range(n):
        for head in range(heads):
            if order == "qkv first":
                starts = [(part * heads + head) * width for part in range(3)]
            else:
                starts = [(head * 3 + part) * width for part in range(3)]
            q, k, v = (qkv[image, :, s : s + width] for s in starts)
            weights = np.exp(q @ k.T / 2)  # √4 = 2
            weights /= weights.sum(axis=1, keepdims=True)
            np.testing.assert_allclose(
                y[image, :, head * width : (head + 1) * width], weights @ v, atol=1e-12
            )


def test_attention_refuses_heads_that_do_not_divide():
    with pytest.raises(ValueError, match="heads=4"):
        attention(random(0, 1, 2, 18), heads=4)


def test_silu_and_softmax_survive_large_arguments():
    y, _ = silu(np.array([-1e4, 1e4], np.float32))
    np.testing.assert_array_equal(y, [0, 1e4])
    p, _ = softmax(np.array([1e4, 0.0, -1e4], np.float32))
    np.testing.assert_array_equal(p, [1, 0, 0])


def test_upsample_makes_squares():
    x = random(0, 2, 3, 4, 2)
    y = upsample(x)
    for a, b in np.ndindex(2, 2):
        np.testing.assert_array_equal(y[:, a::2, b::2], x)


def test_dropout_keeps_the_mean():
    keep = np.array([True, False, True, True])
    y, _ = dropout(np.ones(4), keep, rate=0.25)
    np.testing.assert_allclose(y, [4 / 3, 0, 4 / 3, 4 / 3])


def test_time_embedding_in_both_published_forms():
    t = np.array([0.0, 1.0, 250.5])
    ho, _ = time_embedding(t, dim=6, order="sin|cos", shift=1)
    improved, _ = time_embedding(t, dim=6, order="cos|sin", shift=0)
    np.testing.assert_allclose(ho[:, 2], np.sin(t / 10000), atol=1e-15)  # the last ω is 1/10000
    np.testing.assert_allclose(ho[:, 3], np.cos(t))
    np.testing.assert_allclose(improved[:, 1], np.cos(t * 10000 ** (-1 / 3)))
    np.testing.assert_allclose(improved[:, 5], np.sin(t * 10000 ** (-2 / 3)))
    with pytest.raises(ValueError, match="even"):
        time_embedding(t, dim=5)
