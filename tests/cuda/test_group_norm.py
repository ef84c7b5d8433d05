"""GroupNorm, alone and with SiLU, on the simulated GPU against the reference, and on a real one."""

import numpy as np
import pytest
import test_conv_operands
import twins
from builds import BUILDS
from conv_twins import normals, placed
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from simulator import SimRuntime

from tinyddpm.arrays import to_host
from tinyddpm.kernels.cuda import group_norm
from tinyddpm.kernels.cuda.group_norm import GroupNorm
from tinyddpm.kernels.cuda.operands import Operands
from tinyddpm.kernels.cuda.source import source

pytestmark = pytest.mark.cuda_sim
SILU = pytest.mark.parametrize("silu", [False, True], ids=["norm", "norm and silu"])
on_one_device = settings(
    max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
# Registers on sm_90, so that 1024 threads are in flight on a multiprocessor.
BUDGET = {
    "group_norm_moments": 64,
    "group_norm_apply": 64,
    "group_norm_forward": 64,
    "group_norm_sums": 64,
    "group_norm_dx": 64,
    "group_norm_backward": 64,
}
# The sums of dx need more: 768 threads.
WITH_SUMS = {"group_norm_dx": 80, "group_norm_backward": 80}


@pytest.fixture(params=["simulated", pytest.param("gpu", marks=pytest.mark.cuda)])
def device(request):
    """A simulated GPU, whose asynchronous copies these kernels do not use, and a real one."""
    return request.getfixturevalue("sim" if request.param == "simulated" else "gpu")


@SILU
@on_one_device
@given(
    n=st.integers(1, 3),
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    groups=st.integers(1, 6),
    per_group=st.sampled_from([1, 2, 3, 4, 8, 12]),
    slab=st.sampled_from([8, 60, 8192]),
)
def test_is_the_reference(device, silu, n, height, width, groups, per_group, slab):
    channels = groups * per_group
    shapes = [(n, height, width, channels), (channels,), (channels,)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(group_norm, "_SLAB", slab)  # many slabs, or one
        pairs = twins.group_norm(device, silu=silu).results(
            shapes, normals, groups=groups, norm_eps=1e-2
        )
    assert twins.largest_error(pairs) < 1e-5


@SILU
@pytest.mark.parametrize(("channels", "groups"), [(1040, 20), (258, 43), (1024, 32)])
def test_more_channels_than_threads(device, silu, channels, groups):
    shapes = [(2, 2, 3, channels), (channels,), (channels,)]
    pairs = twins.group_norm(device, silu=silu).results(shapes, normals, groups=groups)
    assert twins.largest_error(pairs) < 1e-5


@SILU
@pytest.mark.parametrize("slab", [700, 8192])
def test_each_image_may_have_a_weight_and_bias_of_its_own(device, slab, silu):
    shapes = [(3, 13, 9, 24), (3, 24), (3, 24)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(group_norm, "_SLAB", slab)  # some slabs an image, or one
        pairs = twins.group_norm(device, silu=silu).results(shapes, normals, groups=8)
    assert [result.shape for result, _ in pairs] == [shapes[0], *shapes]
    assert twins.largest_error(pairs) < 1e-5


@SILU
@pytest.mark.parametrize("offset", [100, -1000])
def test_a_mean_far_from_zero_costs_nothing(device, silu, offset):
    def values(seed, *shape):
        return normals(seed, *shape) + np.float32(offset if seed == 0 else 0)

    shapes = [(2, 14, 14, 32), (32,), (32,)]
    pairs = twins.group_norm(device, silu=silu).results(shapes, values, groups=8)
    assert twins.relative_errors(pairs).max() < 1e-6


def test_the_pivot_may_be_the_outlier(device):
    def values(seed, *shape):
        made = normals(seed, *shape)
        if seed == 0:
            made[:, 8, 8] += 100  # sixteen rows: the pixel in the middle, which lends the pivots
        return made

    shapes = [(1, 16, 16, 32), (32,), (32,)]
    pairs = twins.group_norm(device, silu=False).results(shapes, values, groups=8)
    assert twins.relative_errors(pairs).max() < 3e-5


@pytest.mark.filterwarnings("ignore:overflow")
def test_what_has_overflowed_does_not_look_like_a_number(device):
    ones = placed(device, np.ones(8, np.float32))
    x = normals(0, 1, 5, 5, 8) * np.float32(1e30)
    y, _ = GroupNorm(device, silu=False).forward(placed(device, x), ones, ones, groups=2)
    assert not np.isfinite(to_host(y)).any()


def results(device, x, dy, *, silu=True):
    norm = GroupNorm(device, silu=silu)
    weight, bias = (placed(device, normals(seed, x.shape[-1])) for seed in (1, 2))
    y, saved = norm.forward(placed(device, x), weight, bias, groups=4)
    return [to_host(array) for array in (y, *norm.backward(placed(device, dy), saved))]


@SILU
def test_no_bit_depends_on_the_order_of_the_blocks_or_on_other_images(request, silu):
    x, dy = normals(0, 3, 20, 21, 24), normals(9, 3, 20, 21, 24)
    cache = request.config.cache.mkdir("cuda_sim")
    first = results(SimRuntime(cache, seed=1), x, dy, silu=silu)
    second = results(SimRuntime(cache, seed=2), x, dy, silu=silu)
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a, b)
    y, dx, *_ = results(SimRuntime(cache), x[1:2], dy[1:2], silu=silu)
    np.testing.assert_array_equal(y, first[0][1:2])
    np.testing.assert_array_equal(dx, first[1][1:2])


def test_takes_half_of_a_concatenation(device):
    x, dy = normals(0, 2, 5, 5, 16), normals(9, 2, 5, 5, 24)
    expected = results(device, x, dy[..., 8:])
    norm = GroupNorm(device, silu=True)
    weight, bias = (placed(device, normals(seed, 16)) for seed in (1, 2))
    _, saved = norm.forward(placed(device, x), weight, bias, groups=4)
    gradients = norm.backward(placed(device, dy)[..., 8:], saved)
    for result, exact in zip(gradients, expected[1:], strict=True):
        np.testing.assert_array_equal(to_host(result), exact)


@pytest.mark.parametrize(
    ("precision", "dtype", "piece"), [("bf16", np.uint16, 8), ("tf32", np.uint32, 4)]
)
@pytest.mark.parametrize("channels", [8, 40, 12, 13])
def test_what_goes_into_a_product_is_written_as_its_operand(
    device, channels, precision, dtype, piece
):
    """The same that packing makes of it, and packed only if channels are to be padded."""
    x = placed(device, normals(0, 2, 5, 7, channels))
    weight, bias = (placed(device, normals(seed, channels)) for seed in (1, 2))
    inputs = {"groups": 1, "norm_eps": 1e-2}
    plain, _ = GroupNorm(device, silu=True).forward(x, weight, bias, **inputs)
    operands, norm = Operands(device, precision), GroupNorm(device, silu=True, precision=precision)
    y, saved = norm.forward(x, weight, bias, **inputs)
    assert y.dtype == (np.float32 if channels % piece else dtype)
    operand, expected = operands.image(y), operands.image(plain)
    assert (operand.values is y) == (channels % piece == 0)
    assert operand.channels == channels
    np.testing.assert_array_equal(to_host(operand.values), to_host(expected.values))
    values = test_conv_operands.decoded(to_host(operand.values))[..., :channels]
    test_conv_operands.assert_nearest(np.ascontiguousarray(values), to_host(plain), precision)
    dy = placed(device, normals(9, *x.shape))
    for mine, exact in zip(
        norm.backward(dy, saved),
        GroupNorm(device, silu=True).backward(dy, saved),
        strict=True,
    ):
        np.testing.assert_array_equal(to_host(mine), to_host(exact))


def test_refuses_groups_that_do_not_divide(sim):
    ones = np.ones(6, np.float32)
    with pytest.raises(ValueError, match="C=6, groups=4"):
        GroupNorm(sim, silu=False).forward(np.ones((1, 2, 2, 6), np.float32), ones, ones, groups=4)


@pytest.mark.parametrize(("side", "kernels"), [(45, 1), (46, 2)])
def test_launches_one_kernel_or_two_and_adds_up_backward(sim, side, kernels):
    """Of up to 16,384 values an image, one."""
    norm = GroupNorm(sim, silu=True)
    ones = np.ones(8, np.float32)
    y, saved = norm.forward(normals(0, 2, side, side, 8), ones, ones, groups=2)
    assert sim.launches == kernels
    norm.backward(y, saved)
    assert sim.launches == 2 * kernels + 1


@pytest.mark.cuda_compile
def test_keeps_its_budget_of_registers(compile_cubin):
    seen = set()
    for file in ("group_norm.cu", "group_norm_backward.cu"):
        for defines in BUILDS[file]:
            budget = BUDGET | WITH_SUMS if defines.get("SUMS") else BUDGET
            _, usages = compile_cubin(source(file, defines), "sm_90")
            for name, usage in usages.items():
                assert usage.registers <= budget[name], (name, defines)
            seen |= usages.keys()
    assert seen == BUDGET.keys()
