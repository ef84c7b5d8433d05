"""Convolutions and dense layers on the simulated GPU against the reference.

On small integers the results must be equal to the last bit, in every precision; what rounding costs
is measured on normal numbers. Where there is a GPU, it must give the same.
"""

import numpy as np
import pytest
from conv_twins import convolution, dense, doubling, integers, normals, onto
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from simulator import SimRuntime

from tinyddpm.kernels.cuda import products
from tinyddpm.kernels.cuda.conv2d import Convolutions
from tinyddpm.kernels.cuda.linear import Linears
from tinyddpm.kernels.cuda.products import FP32, HUGE, LARGE, MIDDLE, NARROW, SMALL, TILES, tile_for

pytestmark = pytest.mark.cuda_sim

PRECISIONS = ["fp32", "tf32", "bf16"]
BUILDS = [("fp32", FP32), ("tf32", LARGE), ("tf32", SMALL), *(("bf16", tile) for tile in TILES)]
on_one_device = settings(
    max_examples=4, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
sides = st.integers(2, 11)
channels = st.sampled_from([1, 3, 4, 8, 13, 16, 32, 40, 67])


@pytest.fixture(params=BUILDS, ids=lambda build: f"{build[0]}-{build[1].m}x{build[1].n}")
def precision(request, monkeypatch):
    """A precision, with one tile for all shapes, and sums over pixels in many parts."""
    name, tile = request.param
    monkeypatch.setattr(products, "tile_for", lambda *_: tile)
    monkeypatch.setattr(products, "_PART", 40)  # no multiple of a chunk
    return name


def assert_exact(pairs):
    """``pairs`` come from ``Twin.results``, on the host."""
    for result, expected in pairs:
        assert result.dtype == np.float32
        np.testing.assert_array_equal(result, expected)


@on_one_device
@given(
    n=st.integers(1, 3), height=sides, width=sides, c_in=channels, c_out=channels, data=st.data()
)
def test_convolution_is_exact(device, precision, n, height, width, c_in, c_out, data):
    same = [(3, 1, (1, 1)), (3, 1, (0, 2)), (1, 1, (0, 0))]
    smaller = [(3, 1, (0, 1)), (3, 2, (1, 1)), (3, 2, (0, 1)), (1, 2, (0, 0)), (2, 3, (1, 0))]
    size, stride, pad = data.draw(st.sampled_from(same + smaller))
    shapes = [(n, height, width, c_in), (size, size, c_in, c_out), (c_out,)]
    twin = convolution(device, precision)
    assert_exact(twin.results(shapes, integers, stride=stride, pad=pad))


@pytest.mark.parametrize("stride", [1, 2])
def test_channels_in_several_runs_are_exact(device, precision, stride):
    shapes = [(2, 5, 6, 64), (3, 3, 64, 96), (96,)]
    assert_exact(convolution(device, precision).results(shapes, integers, stride=stride))


@on_one_device
@given(n=st.integers(1, 3), height=sides, width=sides, c_in=channels, c_out=channels)
def test_biases_of_images_and_a_residual_are_added(
    device, precision, n, height, width, c_in, c_out
):
    halved = -(-height // 2), -(-width // 2)
    ways = [
        (3, 1, (1, 1), (height, width)),
        (3, 2, (1, 1), halved),
        (1, 1, (0, 0), (height, width)),
    ]
    for size, stride, pad, result in ways:
        shapes = [
            (n, height, width, c_in),
            (size, size, c_in, c_out),
            (n, c_out),
            (n, *result, c_out),
        ]
        assert_exact(onto(device, precision).results(shapes, integers, stride=stride, pad=pad))


@on_one_device
@given(n=st.integers(1, 3), height=sides, width=sides, c_in=channels, c_out=channels)
def test_doubling_is_exact(device, precision, n, height, width, c_in, c_out):
    for bias in ((c_out,), (n, c_out)):
        shapes = [(n, height // 2, width // 2, c_in), (3, 3, c_in, c_out), bias]
        assert_exact(doubling(device, precision).results(shapes, integers))


@on_one_device
@given(leading=st.lists(sides, min_size=1, max_size=3), c_in=channels, c_out=channels)
def test_dense_layer_is_exact(device, precision, leading, c_in, c_out):
    for added in ([], [(*leading, c_out)], [(c_out,)]):
        shapes = [(*leading, c_in), (c_in, c_out), (c_out,), *added]
        assert_exact(dense(device, precision).results(shapes, integers))


@pytest.mark.parametrize(
    ("precision", "least", "most"), [("fp32", 0, 1e-6), ("tf32", 1e-5, 2e-3), ("bf16", 2e-4, 1e-2)]
)
@pytest.mark.parametrize("make", [convolution, doubling, dense])
def test_rounding_costs_what_the_precision_says(device, make, precision, least, most):
    kernel = () if make is dense else (3, 3)
    shapes = [(2, 9, 8, 24), (*kernel, 24, 40), (40,)]
    *products_, (dbias, dbias_exact) = make(device, precision).results(shapes, normals)
    for result, exact in products_:
        assert least <= np.abs(result - exact).max() / np.abs(exact).max() < most
    assert np.abs(dbias - dbias_exact).max() < 1e-6 * np.abs(dbias_exact).max()  # never rounded


@pytest.mark.parametrize("precision", PRECISIONS)
def test_no_bit_depends_on_the_order_of_the_threads(request, monkeypatch, precision):
    monkeypatch.setattr(products, "_PART", 40)
    cache = request.config.cache.mkdir("cuda_sim")
    shapes = [(2, 9, 8, 12), (3, 3, 12, 40), (40,)]
    first, second = (
        convolution(SimRuntime(cache, seed=seed), precision).results(shapes, normals)
        for seed in (1, 2)
    )
    for (one, _), (other, _) in zip(first, second, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_views_are_taken_as_they_come(sim, precision):
    """Halves of a concatenated array, and images that begin anywhere in memory."""
    x, weight = integers(0, 3, 5, 5, 6), integers(1, 3, 3, 3, 4)
    dy, bias, residual = integers(2, 3, 5, 5, 8), integers(3, 9)[1:5], integers(4, 2, 5, 5, 9)
    ours, lines = Convolutions(sim, precision), Linears(sim, precision)

    def results(take):
        onto = take(residual[..., 1:5])
        y, saved = ours.forward(
            take(x[1:, ..., 3:]), ours.prepare(weight), take(bias), residual=onto
        )
        z, line = lines.forward(take(x[1:, ..., 3:]), lines.prepare(take(weight[1, 1])), take(bias))
        dz = take(dy[1:, ..., :4])
        return [y, z, *ours.backward(dz, saved), *lines.backward(dz, line)]

    for viewed, copied in zip(results(lambda a: a), results(np.array), strict=True):
        np.testing.assert_array_equal(viewed, copied)


def test_shapes_that_do_not_fit_are_refused(sim):
    """A kernel would read beyond the arrays."""
    ours = Convolutions(sim, "bf16")
    weight, bias = ours.prepare(normals(0, 3, 3, 5, 4)), normals(1, 4)
    with pytest.raises(ValueError, match=r"of 5 channels.*6, 6, 7"):
        ours.forward(normals(2, 1, 6, 6, 7), weight, bias)
    x = normals(2, 1, 6, 6, 5)
    for shape in ((5,), (2, 4), (1, 5)):
        with pytest.raises(ValueError, match=r"bias.*\(4,\) or \(1, 4\): got \(" + str(shape[0])):
            ours.forward(x, weight, normals(1, *shape))
    for shape in ((6, 6, 4), (1, 6, 6, 5), (2, 6, 6, 4)):
        with pytest.raises(ValueError, match=r"residual.*\(1, 6, 6, 4\) or \(4,\): got"):
            ours.forward(x, weight, bias, residual=normals(1, *shape))
    _, saved = ours.forward(x, weight, bias)
    with pytest.raises(ValueError, match=r"6 × 6.*6, 5, 4"):
        ours.backward(normals(3, 1, 6, 5, 4), saved)


def test_a_bf16_convolution_keeps_half_the_bytes_of_its_input(sim):
    ours = Convolutions(sim, "bf16")
    x, weight = normals(0, 1, 4, 4, 16), ours.prepare(normals(1, 3, 3, 16, 8))
    _, saved = ours.forward(x, weight, normals(2, 8))
    assert saved.x.values.nbytes == x.nbytes // 2


@pytest.mark.parametrize(
    ("m", "n", "copies", "tile"),
    [
        (128 * 32 * 32, 128, 1, HUGE),
        (128 * 16 * 16, 256, 1, HUGE),
        (128 * 8 * 8, 256, 1, SMALL),  # 128 large tiles leave multiprocessors idle
        (128 * 8 * 8, 256, 2, LARGE),  # but not in two copies
        (128 * 8 * 8, 256, 4, HUGE),
        (9 * 128, 256, 64, LARGE),  # no multiple of a huge one
        (128 * 28 * 28, 64, 1, MIDDLE),
        (128 * 28 * 28, 32, 1, NARROW),
        (128, 512, 1, SMALL),
    ],
)
def test_tile_fits_the_shape(m, n, copies, tile):
    assert tile_for(m, n, copies) is tile
