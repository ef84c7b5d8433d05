"""Convolutions of the cpu table: of any kernel, which way they go, and how they share a weight."""

import sys
import time
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from tinyddpm.kernels.cpu.conv2d import (
    Im2colSaved,
    PreparedWeight,
    Winograd1dSaved,
    WinogradSaved,
    conv2d,
    conv2d_backward,
    upsample_conv2d,
)
from tinyddpm.kernels.cpu.tiling import four
from tinyddpm.kernels.cpu.winograd import transform_weight
from tinyddpm.ops.conv2d import conv2d as exact_conv2d
from tinyddpm.ops.conv2d import conv2d_backward as exact_conv2d_backward


def random(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape)


def assert_convolves(x, weight, bias, **options):
    """As the definition does, there and back."""
    exact, exact_saved = exact_conv2d(x, weight.weight, bias, **options)
    y, saved = conv2d(x, weight, bias, **options)
    dy = random(3, *exact.shape)
    results = [y, *conv2d_backward(dy, saved)]
    expected = [exact, *exact_conv2d_backward(dy, exact_saved)]
    for result, exact_result in zip(results, expected, strict=True):
        np.testing.assert_allclose(result, exact_result, rtol=0, atol=1e-11)


@given(
    height=st.integers(1, 6),
    width=st.integers(1, 6),
    kernel=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    stride=st.integers(1, 3),
    pad=st.tuples(st.integers(0, 2), st.integers(0, 2)),
    channels=st.tuples(st.integers(1, 4), st.integers(1, 4)),
)
@example(height=2, width=2, kernel=(3, 3), stride=2, pad=(1, 2), channels=(3, 3))  # y is as large
@example(height=4, width=4, kernel=(1, 1), stride=2, pad=(0, 0), channels=(2, 3))
def test_any_kernel_stride_and_padding_convolve(height, width, kernel, stride, pad, channels):
    assume(height + sum(pad) >= kernel[0] and width + sum(pad) >= kernel[1])
    x, weight = random(0, 2, height, width, channels[0]), random(1, *kernel, *channels)
    assert_convolves(x, PreparedWeight(weight), random(2, channels[1]), stride=stride, pad=pad)


def test_one_weight_serves_images_of_several_heights():
    weight, bias = PreparedWeight(random(1, 3, 3, 4, 5)), random(2, 5)
    for height in (28, 16, 28):  # in tiles of seven, and of four
        assert_convolves(random(0, 1, height, 9, 4), weight, bias)


@pytest.mark.parametrize(
    ("way", "n", "height", "width", "c_in", "c_out"),
    [
        (Winograd1dSaved, 1, 16, 16, 21, 400),  # of 39.9 channels in the harmonic mean
        (WinogradSaved, 1, 16, 16, 22, 400),  # 41.7
        (Im2colSaved, 1, 16, 10, 64, 64),
        (WinogradSaved, 1, 14, 12, 64, 64),
        (Im2colSaved, 2, 16, 5, 64, 64),
        (WinogradSaved, 2, 9, 9, 64, 64),
    ],
)
def test_the_way_is_chosen_by_channels_and_pixels(way, n, height, width, c_in, c_out):
    x, weight = np.ones((n, height, width, c_in)), PreparedWeight(np.ones((3, 3, c_in, c_out)))
    assert isinstance(conv2d(x, weight, np.ones(c_out))[1].way, way)


@pytest.mark.parametrize(
    ("way", "height", "width", "channels"),
    [
        (Im2colSaved, 8, 8, 9),
        (WinogradSaved, 8, 8, 10),
        (Im2colSaved, 8, 5, 10),  # 160 pixels when doubled
        (WinogradSaved, 7, 6, 10),  # 168
    ],
)
def test_the_way_of_a_doubled_image_is_chosen_likewise(way, height, width, channels):
    weight = PreparedWeight(np.ones((3, 3, channels, channels)))
    x = np.ones((1, height, width, channels))
    assert isinstance(upsample_conv2d(x, weight, np.ones(channels))[1].way, way)


@pytest.mark.parametrize(
    ("channels", "way"), [(40, Winograd1dSaved), (41, WinogradSaved)], ids=["one axis", "both axes"]
)
def test_threads_that_share_a_weight_find_the_same(channels, way):
    x, bias = random(0, 4, 16, 16, channels).astype(np.float32), np.zeros(channels, np.float32)
    weight = random(1, 3, 3, channels, channels).astype(np.float32)

    def step(prepared):
        y, saved = conv2d(x, prepared, bias)
        return y, *conv2d_backward(y, saved)

    assert isinstance(conv2d(x, PreparedWeight(weight), bias)[1].way, way)
    expected = step(PreparedWeight(weight))
    shared = PreparedWeight(weight)
    with ThreadPoolExecutor(4) as pool:
        for results in pool.map(step, [shared] * 16):
            for result, alone in zip(results, expected, strict=True):
                np.testing.assert_array_equal(result, alone)


def test_of_threads_that_share_a_weight_one_makes_each_form(monkeypatch):
    made, begun = [], Barrier(4)

    def slowly(weight, tiling):
        made.append(tiling)
        time.sleep(0.05)
        return transform_weight(weight, tiling)

    def ask(weight):
        begun.wait()
        return weight.for_both_axes(four(weight.weight.dtype))

    monkeypatch.setattr(sys.modules[PreparedWeight.__module__], "transform_weight", slowly)
    weight = PreparedWeight(random(0, 3, 3, 2, 2))
    with ThreadPoolExecutor(4) as pool:
        forms = list(pool.map(ask, [weight] * 4))
    assert len(made) == 1
    assert all(form is forms[0] for form in forms)


def test_an_image_of_another_type_makes_no_form_anew():
    weight = PreparedWeight(random(0, 3, 3, 48, 48).astype(np.float32))
    for dtype in (np.float32, np.float64):
        conv2d(random(1, 1, 16, 16, 48).astype(dtype), weight, np.zeros(48, dtype))
    assert [form.dtype for form in weight.forms.values()] == [np.float32]


@pytest.mark.parametrize("channels", [8, 64])
def test_an_image_of_float32_spoils_no_weight_of_float64(channels):
    x, bias = random(0, 2, 28, 28, channels), random(1, channels)
    weight = PreparedWeight(random(2, 3, 3, channels, channels))
    conv2d(x.astype(np.float32), weight, bias)
    exact, _ = exact_conv2d(x, weight.weight, bias)
    y, _ = conv2d(x, weight, bias)
    np.testing.assert_allclose(y, exact, rtol=0, atol=1e-12 * np.abs(exact).max())
