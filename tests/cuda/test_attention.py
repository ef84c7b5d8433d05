"""Attention on the simulated GPU against the reference, and on a real one."""

import numpy as np
import pytest
import twins
from conv_twins import normals, placed
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from simulator import SimRuntime

from tinyddpm.arrays import to_host
from tinyddpm.kernels.cuda.attention import Attention, attention_defines
from tinyddpm.kernels.cuda.source import source

pytestmark = pytest.mark.cuda_sim
ORDERS = ["qkv first", "heads first"]
# TF32 rounds operands by up to 2^-12 = 2.4e-4, in up to three products one after another.
TOLERANCES = {"fp32": 1e-6, "tf32": 1e-3}
PRECISIONS = pytest.mark.parametrize("precision", TOLERANCES)
# Registers on sm_90 by a head's width: so that 4, 3, 3 and 2 blocks of 128 threads fit.
BUDGET = {8: 128, 32: 168, 64: 168, 256: 255}
on_one_device = settings(
    max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def tolerance(device, precision):
    """A card's exp2f, unlike the simulator's, is off by up to 2 units in the last place."""
    on_a_card = precision == "fp32" and not isinstance(device, SimRuntime)
    return TOLERANCES[precision] * (2 if on_a_card else 1)


def by_part(pairs):
    """y, dq, dk and dv, each with its reference, of "qkv first"."""
    y, (dqkv, exact) = pairs
    return [y, *zip(np.split(to_host(dqkv), 3, -1), np.split(exact, 3, -1), strict=True)]


@PRECISIONS
@on_one_device
@given(
    n=st.integers(1, 2),
    tokens=st.integers(1, 140),
    heads=st.integers(1, 4),
    width=st.integers(1, 12),
    order=st.sampled_from(ORDERS),
)
def test_is_the_reference(device, precision, n, tokens, heads, width, order):
    pairs = twins.attention(device, precision).results(
        [(n, tokens, 3 * heads * width)], normals, heads=heads, qkv_order=order
    )
    assert twins.largest_error(pairs) < 5 * tolerance(device, precision)


@PRECISIONS
@pytest.mark.parametrize("width", [8, 32, 40, 64, 100, 256, 300])
@pytest.mark.parametrize("tokens", [16, 65])
def test_heads_of_every_width(device, precision, width, tokens):
    pairs = twins.attention(device, precision).results(
        [(1, tokens, 3 * 2 * width)], normals, heads=2
    )
    errors = twins.relative_errors(by_part(pairs))
    assert errors.max() < tolerance(device, precision)
    assert precision == "fp32" or errors.min() > 1e-5  # the tensor cores' precision is in use


@PRECISIONS
@pytest.mark.parametrize("sign", [1, -1], ids=["growing", "falling"])
def test_scores_may_grow_from_tile_to_tile(device, precision, sign):
    """By 40 over the row, so that what the first tiles added must all but vanish in the end."""

    def values(seed, *shape):
        made = normals(seed, *shape)
        if seed == 0:  # q = (…, 1), k = (…, slope i)
            made[..., 7] = 1
            made[..., 15] = sign * np.linspace(-20, 20, shape[1]) * np.sqrt(8)
        return made

    pairs = twins.attention(device, precision).results([(1, 200, 24)], values, heads=1)
    errors = twins.relative_errors(by_part(pairs))
    assert errors.max() < (2e-5 if precision == "fp32" else 3e-2)


def test_scores_may_all_be_far_below_zero(device):
    """At −300, a token beyond the last, whose score is 0, would weigh more than float32 can say."""

    def values(seed, *shape):
        made = normals(seed, *shape)
        if seed == 0:
            made[..., 3], made[..., 11] = 30, -30
        return made

    pairs = twins.attention(device, "fp32").results([(1, 70, 24)], values, heads=1)
    assert twins.relative_errors(by_part(pairs)).max() < 1e-4


def results(device, qkv, dy):
    ours = Attention(device, "tf32")
    y, saved = ours.forward(placed(device, qkv), heads=2)
    return to_host(y), to_host(ours.backward(placed(device, dy), saved))


def test_no_bit_depends_on_the_order_of_the_warps_or_on_other_images(request):
    qkv, dy = normals(0, 2, 70, 48), normals(9, 2, 70, 16)
    cache = request.config.cache.mkdir("cuda_sim")
    first = results(SimRuntime(cache, seed=1), qkv, dy)
    second = results(SimRuntime(cache, seed=2), qkv, dy)
    alone = results(SimRuntime(cache), qkv[1:], dy[1:])
    for a, b, c in zip(first, second, alone, strict=True):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(a[1:], c)


def test_bf16_attends_in_tf32(sim):
    qkv = normals(0, 1, 20, 48)
    results = [Attention(sim, p).forward(qkv, heads=2)[0] for p in ("tf32", "bf16")]
    np.testing.assert_array_equal(*results)


def test_takes_views_with_gaps(sim):
    wide, dy = placed(sim, normals(0, 2, 9, 60)), placed(sim, normals(9, 2, 9, 30))
    ours = Attention(sim, "fp32")
    y, saved = ours.forward(wide[..., 12:], heads=2)
    expected, saved_copy = ours.forward(wide[..., 12:].copy(), heads=2)
    np.testing.assert_array_equal(y, expected)
    halves = dy[..., :16], dy[..., :16].copy()
    np.testing.assert_array_equal(
        ours.backward(halves[0], saved), ours.backward(halves[1], saved_copy)
    )


def test_refuses_heads_that_do_not_divide(sim):
    with pytest.raises(ValueError, match="heads=4"):
        Attention(sim, "fp32").forward(np.ones((1, 2, 18), np.float32), heads=4)


@pytest.mark.cuda_compile
@pytest.mark.parametrize("width", BUDGET)
def test_keeps_its_budget_of_registers(compile_cubin, width):
    _, usages = compile_cubin(source("attention.cu", attention_defines(width, "tf32")), "sm_90")
    for name, usage in usages.items():
        assert usage.registers <= BUDGET[width], name
