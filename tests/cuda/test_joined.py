"""Two maps that are read as one, against the one that they would be."""

import numpy as np
import pytest
import twins
from conv_twins import normals, placed

from tinyddpm.arrays import to_host
from tinyddpm.kernels.cuda import group_norm
from tinyddpm.kernels.cuda.conv2d import Convolutions
from tinyddpm.kernels.cuda.group_norm import GroupNorm
from tinyddpm.kernels.cuda.joined import Joined, join, join_backward
from tinyddpm.kernels.cuda.operands import Operands
from tinyddpm.ops.group_norm_silu import group_norm_silu, group_norm_silu_backward

pytestmark = pytest.mark.cuda_sim
# By four channels and one by one; pieces and groups of three that lie across the border.
WIDTHS = [(16, 8), (8, 16), (4, 20), (10, 14), (7, 5), (1, 23), (264, 12), (259, 5)]


@pytest.fixture(params=["simulated", pytest.param("gpu", marks=pytest.mark.cuda)])
def device(request):
    """A simulated GPU and a real one."""
    return request.getfixturevalue("sim" if request.param == "simulated" else "gpu")


def maps(device, widths, n=2):
    """Two maps, and one that is both."""
    shapes = [(n, 13, 9, width) for width in widths]
    a, b = (normals(seed, *shape) for seed, shape in enumerate(shapes))
    whole = np.concatenate([a, b], axis=-1)
    return Joined(placed(device, a), placed(device, b)), placed(device, whole)


def host(x):
    """A whole map."""
    return np.concatenate([to_host(p) for p in x], axis=-1) if type(x) is Joined else to_host(x)


def norm_inputs(x):
    """Weight, bias, dy and a residual."""
    channels = x.shape[-1]
    return [normals(2, channels), normals(3, channels), normals(4, *x.shape), normals(5, *x.shape)]


@pytest.mark.parametrize("slab", [700, 8192])
@pytest.mark.parametrize("widths", WIDTHS)
def test_a_norm_reads_both_and_gives_both_gradients(device, widths, slab):
    joined, whole = maps(device, widths)
    inputs, groups = norm_inputs(whole), sum(widths) // 3
    weight, bias, dy, residual = (placed(device, array) for array in inputs)
    norm = GroupNorm(device, silu=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(group_norm, "_SLAB", slab)
        y, saved = norm.forward(joined, weight, bias, groups=groups)
        gradients = norm.backward(dy, saved, residual)
    weight, bias, dy, residual = (array.astype(float) for array in inputs)
    exact, saved = group_norm_silu(to_host(whole).astype(float), weight, bias, groups=groups)
    expected = [exact, *group_norm_silu_backward(dy, saved, residual)]
    assert type(gradients[0]) is Joined
    assert [part.shape[-1] for part in gradients[0]] == list(widths)
    pairs = zip(map(host, (y, *gradients)), expected, strict=True)
    assert twins.largest_error(pairs) < 1e-5


@pytest.mark.parametrize("widths", [(10, 14), (8, 16)])
def test_a_norm_writes_the_operand_of_both(device, widths):
    joined, whole = maps(device, widths)
    weight, bias = (placed(device, array) for array in norm_inputs(whole)[:2])
    y, _ = GroupNorm(device, silu=True, precision="bf16").forward(joined, weight, bias, groups=8)
    plain, _ = GroupNorm(device, silu=True).forward(whole, weight, bias, groups=8)
    assert y.dtype == np.uint16
    bits = to_host(Operands(device, "bf16").image(plain).values).astype(int)
    assert np.abs(to_host(y).astype(int) - bits).max() <= 1  # sums in another order


@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16"])
@pytest.mark.parametrize("widths", WIDTHS)
def test_both_are_packed_as_one(device, widths, precision):
    joined, whole = maps(device, widths)
    operands = Operands(device, precision)
    mine, expected = operands.image(joined), operands.image(whole)
    assert mine.channels == expected.channels == sum(widths)
    np.testing.assert_array_equal(to_host(mine.values), to_host(expected.values))


@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16"])
def test_a_convolution_takes_both(device, precision):
    joined, whole = maps(device, (10, 14))
    ours = Convolutions(device, precision)
    weight, bias = placed(device, normals(2, 1, 1, 24, 16)), placed(device, normals(3, 16))
    dy, results = placed(device, normals(4, 2, 13, 9, 16)), []
    for x in (joined, whole):
        y, saved = ours.forward(x, ours.prepare(weight), bias, pad=(0, 0))
        results.append([y, *ours.backward(dy, saved)])
    for mine, expected in zip(*results, strict=True):
        np.testing.assert_array_equal(to_host(mine), to_host(expected))


def test_a_norm_moves_nothing(sim):
    a, b = normals(0, 1, 2, 2, 3), normals(1, 1, 2, 2, 5)
    joined, _ = join(a, b)
    assert joined.shape == (1, 2, 2, 8)
    ones = np.ones(8, np.float32)
    _, saved = GroupNorm(sim, silu=True).forward(joined, ones, ones, groups=2)
    assert saved.x.first is a
    assert saved.x.rest is b
    assert sim.launches == 1


def test_a_gradient_is_given_back_in_parts():
    a, b = normals(0, 1, 2, 2, 3), normals(1, 1, 2, 2, 5)
    joined, saved = join(a, b)
    da, db = join_backward(joined, saved)
    assert da is a
    assert db is b
    for mine, part in zip(join_backward(host(joined), saved), (a, b), strict=True):
        np.testing.assert_array_equal(mine, part)
