"""What is special to the cpu table: Winograd along two axes and one, malloc."""

import platform
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyddpm.kernels.cpu.attention import attention
from tinyddpm.kernels.cpu.im2col import reversed_taps
from tinyddpm.kernels.cpu.norm import group_norm, group_norm_silu, group_norm_silu_backward
from tinyddpm.kernels.cpu.tiling import doubled, four, four_or_seven, interpolation
from tinyddpm.kernels.cpu.winograd import (
    SMALL_PRODUCT,
    transform_image,
    transform_weight,
    winograd,
    winograd_backward,
)
from tinyddpm.kernels.cpu.winograd_1d import (
    Layout,
    layout_of,
    transform_weight_1d,
    winograd_1d,
    winograd_1d_backward,
)
from tinyddpm.ops.attention import attention as exact_attention
from tinyddpm.ops.conv2d import conv2d as exact_conv2d
from tinyddpm.ops.conv2d import conv2d_backward as exact_conv2d_backward
from tinyddpm.ops.group_norm import group_norm as exact_group_norm
from tinyddpm.ops.upsample_conv2d import upsample_conv2d, upsample_conv2d_backward

EXACT = exact_conv2d, exact_conv2d_backward
DOUBLED = upsample_conv2d, upsample_conv2d_backward


def by_tiles(way, x, weight, bias, dy):
    """y, dx, dweight and dbias by Winograd along both axes."""
    tiling = way(x.dtype)
    v, u = transform_image(x, tiling), transform_weight(weight, tiling)
    y = winograd(v, u, bias, x.shape, tiling)
    dx, dweight, dbiases = winograd_backward(dy, v, u, x.shape, tiling)
    return y, dx, dweight, dbiases.sum(axis=0)


def by_lines(x, weight, bias, dy):
    """The same along one."""
    tiling = four_or_seven(x.shape[1], x.dtype)
    y = winograd_1d(x, transform_weight_1d(weight, tiling), bias, tiling)
    u_reversed = transform_weight_1d(reversed_taps(weight), tiling)
    dx, dweight, dbiases = winograd_1d_backward(dy, x, u_reversed, tiling)
    return y, dx, dweight, dbiases.sum(axis=0)


WAYS = {
    "both axes": (partial(by_tiles, four), EXACT),
    "both axes, doubled": (partial(by_tiles, doubled), DOUBLED),
    "one axis": (by_lines, EXACT),
}


def random(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape)


def errors(way, x, weight, bias, dtype):
    """Of y, dx, dweight and dbias by Winograd in ``dtype``, relative to their largest values."""
    compute, (forward, backward) = WAYS[way]
    x, weight, bias = (a.astype(dtype) for a in (x, weight, bias))
    y_exact, saved = forward(*(a.astype(np.float64) for a in (x, weight, bias)))
    dy = random(4, *y_exact.shape).astype(dtype)
    expected = [y_exact, *backward(dy.astype(np.float64), saved)]
    results = compute(x, weight, bias, dy)
    return [np.abs(a - b).max() / np.abs(b).max() for a, b in zip(results, expected, strict=True)]


@pytest.mark.parametrize("way", WAYS)
@given(
    n=st.integers(1, 3),
    height=st.integers(1, 14),
    width=st.integers(1, 14),
    c_in=st.integers(1, 5),
    c_out=st.integers(1, 5),
)
def test_winograd_is_the_convolution_at_any_size(way, n, height, width, c_in, c_out):
    x = random(0, n, height, width, c_in)
    weight, bias = random(2, 3, 3, c_in, c_out), random(3, c_out)
    assert max(errors(way, x, weight, bias, np.float64)) < 1e-12


@pytest.mark.parametrize("way", WAYS)
def test_what_fills_the_last_tiles_up_is_not_kept(way):
    x, weight, bias = random(0, 2, 5, 5, 3), random(1, 3, 3, 3, 2), random(2, 2)
    compute, (forward, _) = WAYS[way]
    dy = forward(x, weight, bias)[0]
    y, dx, *_ = compute(x, weight, bias, dy)
    assert y.flags.c_contiguous
    assert dx.flags.c_contiguous


@pytest.mark.parametrize(
    ("way", "bound"), [("both axes", 6e-6), ("both axes, doubled", 2e-5), ("one axis", 6e-6)]
)
@pytest.mark.parametrize("sign", [np.positive, np.abs], ids=["random", "all positive"])
def test_winograd_in_float32_keeps_its_error_bound(way, bound, sign):
    x = sign(random(0, 1, 16, 16, 256))
    weight, bias = sign(random(2, 3, 3, 256, 256)) / 48, random(3, 256)
    assert max(errors(way, x, weight, bias, np.float32)) < bound


@pytest.mark.parametrize(
    ("side", "c_in", "c_out", "pixels", "bound"),
    [(32, 32, 32, 4, 4e-6), (28, 32, 32, 7, 1e-5), (14, 40, 40, 7, 1e-5), (28, 128, 4, 7, 1e-5)],
)
@pytest.mark.parametrize("sign", [np.positive, np.abs], ids=["random", "all positive"])
def test_winograd_along_one_axis_in_float32_keeps_its_error_bound(
    side, c_in, c_out, pixels, bound, sign
):
    assert four_or_seven(side, np.dtype(np.float32)).step == pixels
    x = sign(random(0, 4, side, side, c_in))
    weight, bias = sign(random(2, 3, 3, c_in, c_out)) / (9 * c_in) ** 0.5, random(3, c_out)
    assert max(errors("one axis", x, weight, bias, np.float32)) < bound


def test_large_products_along_one_axis_are_cut_into_blocks():
    x, weight, bias = random(0, 3, 30, 41, 64), random(1, 3, 3, 64, 64), random(2, 64)
    layout = layout_of(x, 64, four(x.dtype))
    assert layout.blocks > 2
    assert layout.rows * 3 * 64 * 64 <= SMALL_PRODUCT
    assert max(errors("one axis", x, weight, bias, np.float64)) < 1e-12


@pytest.mark.parametrize("blocks", [1, 3])
def test_lines_are_cut_into_matrices_of_neighbours(blocks):
    tiling = four(np.dtype(np.float64))
    layout = Layout(tiling, images=1, tiles=1, width=5, blocks=blocks, rows=4)
    lines = layout.empty(2, np.dtype(np.float64))
    lines[...] = np.arange(lines.shape[1])[:, None]
    own, between = layout.pixels(lines)[0, ..., 0], layout.neighbours(lines)[0, ..., ::2]
    np.testing.assert_array_equal(np.sort(own, axis=None), np.arange(1, 12 * blocks + 1))
    np.testing.assert_array_equal(between, own[..., None] + [-1, 0, 1])


def assert_correlates(tiling, tolerance):
    m = len(tiling.at)
    product = np.einsum("ik, ka, kj -> iaj", tiling.at, tiling.g, tiling.bt)
    expected = [[[j == i + a for j in range(m + 2)] for a in range(3)] for i in range(m)]
    np.testing.assert_allclose(product, expected, rtol=0, atol=tolerance)  # y[i] = Σ … w[a] d[j]


@pytest.mark.parametrize(("side", "pixels"), [(16, 4), (28, 7)])
def test_winograd_matrices_turn_products_into_correlation(side, pixels):
    tiling = four_or_seven(side, np.dtype(np.float64))
    assert (tiling.step, tiling.points) == (pixels, pixels + 2)
    np.testing.assert_array_equal(tiling.at[:, 1], 1)  # where the bias goes
    assert_correlates(tiling, 1e-14)


@given(st.sets(st.integers(-8, 8), min_size=2, max_size=7))
def test_any_points_give_matrices_that_correlate(quarters):
    tiling = interpolation(tuple(quarter / 4 for quarter in quarters), np.dtype(np.float64))
    matrices = (np.abs(matrix) for matrix in (tiling.at, tiling.g, tiling.bt))
    largest = np.einsum("ik, ka, kj -> iaj", *matrices).max()  # of what is added up
    assert_correlates(tiling, 1e-14 * largest)


@pytest.mark.parametrize(
    ("pixels", "step"),
    [(4, 4), (5, 7), (7, 7), (8, 4), (14, 7), (16, 4), (28, 7), (32, 4), (48, 7)],
)
def test_tiles_of_seven_where_they_save_an_eighth(pixels, step):
    assert four_or_seven(pixels, np.dtype(np.float32)).step == step


@pytest.mark.parametrize(("height", "tiles"), [(10, 3), (13, 2)], ids=["of four", "of seven"])
@pytest.mark.parametrize("most", [10**6, 120, 12])
def test_what_was_never_set_reaches_no_result(height, tiles, most, monkeypatch):
    """Of tiles that overlap, the last filled up, in one block or many."""
    empty = np.empty

    def poisoned(*args):
        array = empty(*args)
        array.fill(np.nan)
        return array

    monkeypatch.setattr("tinyddpm.kernels.cpu.winograd_1d.SMALL_PRODUCT", most)
    x, weight, bias = random(0, 2, height, 5, 2), random(1, 3, 3, 2, 3), random(2, 3)
    dy = random(3, 2, height, 5, 3)
    layout = layout_of(x, 3, four_or_seven(height, x.dtype))
    assert layout.tiles == tiles
    assert (layout.blocks > 1) == (most < 10**6)
    expected = by_lines(x, weight, bias, dy)
    monkeypatch.setattr(np, "empty", poisoned)
    for result, clean in zip(by_lines(x, weight, bias, dy), expected, strict=True):
        np.testing.assert_allclose(result, clean, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("mean", "centred"), [(3.8, False), (4.2, True), (100, True)])
@pytest.mark.parametrize(
    "where", [np.s_[:], np.s_[1, ..., 2:4]], ids=["everywhere", "in one group"]
)
def test_a_norm_centres_its_input_only_where_the_mean_is_far(mean, centred, where):
    x = random(0, 2, 28, 28, 16).astype(np.float32)
    x[where] += mean
    _, saved = group_norm(x, np.ones(16, np.float32), np.zeros(16, np.float32), groups=8)
    assert (saved.z is not x) == centred


def test_a_mean_so_far_that_it_is_rounded_coarsely_does_no_harm():
    """Its rounding, of about a hundredth here, is left in what was centred."""
    x = (1e5 + random(0, 2, 28, 28, 16)).astype(np.float32)
    y, saved = group_norm(x, np.ones(16, np.float32), np.zeros(16, np.float32), groups=8)
    assert np.abs(saved.mean).max() > 1e-3
    exact, _ = exact_group_norm(x.astype(np.float64), np.ones(16), np.zeros(16), groups=8)
    np.testing.assert_allclose(y, exact, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("of_q", "of_k"), [(1, 100), (100, 1)])
def test_one_score_at_which_exp_overflows_is_enough_to_shift_them(of_q, of_k):
    """200, of one query and one key among small ones."""
    qkv = 0.1 * random(0, 1, 20, 3 * 4).astype(np.float32)
    qkv[0, 7, :4], qkv[0, 11, 4:8] = of_q, of_k
    y, _ = attention(qkv, heads=1)
    exact, _ = exact_attention(qkv.astype(np.float64), heads=1)
    np.testing.assert_allclose(y, exact, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("channels", "kept"), [(120, True), (128, False)])
def test_the_factors_of_silu_are_kept_of_few_channels_only(channels, kept):
    x, ones = random(0, 1, 4, 4, channels), np.ones(channels)
    y, saved = group_norm_silu(x, ones, ones, groups=8)
    assert (saved.activated is not None) == kept
    dy = random(1, *y.shape)
    results = group_norm_silu_backward(dy, saved)
    made_anew = group_norm_silu_backward(dy, saved._replace(activated=None))
    for one, other in zip(results, made_anew, strict=True):
        np.testing.assert_array_equal(one, other)


FAULTS_OF_A_LARGE_ARRAY = """
import resource, numpy as np
from tinyddpm.kernels.cpu.memory import keep_pages
assert keep_pages()
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.ones(16 << 20, np.uint8)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print(faults(), faults())
"""
FAULTS_IN_A_THREAD = """
import resource, threading, numpy as np
from tinyddpm.kernels.cpu.memory import keep_pages
assert keep_pages()
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    two = [np.ones(40 << 20, np.uint8) for _ in range(2)]  # more than a heap of 64 MiB holds
    del two
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
thread = threading.Thread(target=lambda: print(faults(), faults()))
thread.start()
thread.join()
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt is glibc's")
@pytest.mark.parametrize(
    "program", [FAULTS_OF_A_LARGE_ARRAY, FAULTS_IN_A_THREAD], ids=["alone", "thread"]
)
def test_keep_pages_makes_an_array_fault_only_once(program):
    run = [sys.executable, "-c", program]
    output = subprocess.run(run, capture_output=True, text=True, check=True).stdout
    first, second = map(int, output.split())
    assert second < 64
    assert first > 8 * second


LARGE_PAGES_OF_SMALL_ARRAYS = """
import numpy as np
from pathlib import Path
from tinyddpm.kernels.cpu.memory import keep_pages
keep_pages()
arrays = [np.ones(1 << 20, np.uint8) for _ in range(64)]  # NumPy asks for itself from 4 MiB on
rollup = Path("/proc/self/smaps_rollup").read_text()
print(next(line.split()[1] for line in rollup.splitlines() if line.startswith("AnonHugePages")))
"""
SWITCH = Path("/sys/kernel/mm/transparent_hugepage/enabled")


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt is glibc's")
def test_keep_pages_asks_for_large_pages():
    run = [sys.executable, "-c", LARGE_PAGES_OF_SMALL_ARRAYS]
    output = subprocess.run(run, capture_output=True, text=True, check=True).stdout
    given = SWITCH.is_file() and "[never]" not in SWITCH.read_text()
    assert (int(output) > 16 * 1024) == given  # KiB
