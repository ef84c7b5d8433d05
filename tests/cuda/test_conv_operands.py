"""Operands: rounded to nearest, padded with zeros, summed up on the way."""

import numpy as np
import pytest
from conv_twins import integers, normals, placed
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tinyddpm.kernels.cuda import operands
from tinyddpm.kernels.cuda.operands import Operands, PreparedWeight
from tinyddpm.kernels.cuda.partial_sums import summed

pytestmark = pytest.mark.cuda_sim

LOST_BITS = {"fp32": 0, "tf32": 13, "bf16": 16}
PIECES = {"fp32": 1, "tf32": 4, "bf16": 8}
sizes = st.sampled_from([1, 3, 4, 5, 8, 12, 33, 64, 270])
on_one_device = settings(
    max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def decoded(values):
    """An operand's values as float32."""
    if values.dtype == np.uint16:
        return (values.astype(np.uint32) << 16).view(np.float32)
    return values.view(np.float32)


def assert_nearest(rounded, x, precision):
    """``rounded`` has the precision's bits, and neither neighbour of x that has is nearer."""
    lost = LOST_BITS[precision]
    assert not (rounded.view(np.uint32) & ((1 << lost) - 1)).any()
    low = x.view(np.uint32) >> lost << lost
    neighbours = (low.view(np.float32), (low + (1 << lost)).view(np.float32) if lost else x)
    nearest = np.minimum(*(np.abs(x.astype(float) - n) for n in neighbours))
    np.testing.assert_array_equal(np.abs(x.astype(float) - rounded), nearest)


@pytest.mark.parametrize("precision", LOST_BITS)
@on_one_device
@given(rows=st.integers(1, 300), channels=sizes)
def test_image_is_rounded_padded_and_summed(sim, precision, rows, channels):
    x = normals(0, rows, channels)
    operand, sums = Operands(sim, precision).image_and_sums(x)
    values = decoded(operand.values)
    assert_nearest(values[:, :channels], x, precision)
    assert values.shape[1] % PIECES[precision] == 0
    assert operand.channels == channels
    assert not values[:, channels:].any()
    np.testing.assert_allclose(sums, x.sum(axis=0, dtype=float), rtol=0, atol=1e-4)
    np.testing.assert_array_equal(Operands(sim, precision).image(x).values, operand.values)


@pytest.mark.parametrize("precision", LOST_BITS)
@on_one_device
@given(
    n=st.sampled_from([1, 2, 3, 600]),
    rows=st.integers(1, 60),
    channels=sizes,
    slab=st.sampled_from([100, 8192]),
)
def test_each_image_has_sums_of_its_own(sim, precision, n, rows, channels, slab):
    x = normals(0, n, rows if n < 9 else 1, channels)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(operands, "_SLAB_OF_IMAGE", slab)  # some slabs an image, or one
        operand, sums = Operands(sim, precision).image_and_sums(x, by_image=True)
    assert sums.shape == (n, channels)
    np.testing.assert_allclose(sums, x.sum(axis=1, dtype=float), rtol=0, atol=1e-4)
    np.testing.assert_array_equal(Operands(sim, precision).image(x).values, operand.values)


@pytest.mark.parametrize("precision", LOST_BITS)
@on_one_device
@given(size=st.sampled_from([1, 3, 4]), c_in=sizes, c_out=sizes)
def test_weight_is_rounded_turned_and_padded(sim, precision, size, c_in, c_out):
    weight = normals(0, size, size, c_in, c_out)
    turned = np.ascontiguousarray(weight.transpose(3, 0, 1, 2))
    direct = np.ascontiguousarray(weight.transpose(2, 0, 1, 3))
    _, *operands = Operands(sim, precision).weights(weight)
    for rows, expected in zip(operands, (turned, direct), strict=True):
        values = decoded(rows.values)
        channels = expected.shape[-1]
        assert_nearest(np.ascontiguousarray(values[..., :channels]), expected, precision)
        assert values.shape[-1] % PIECES[precision] == 0
        assert not values[..., channels:].any()


def test_folded_taps_add_up_where_they_overlap(sim):
    weight = integers(0, 3, 3, 5, 7)
    folded = np.zeros((4, 4, 5, 7))
    for a in range(2):
        for b in range(2):
            folded[a : a + 3, b : b + 3] += weight[::-1, ::-1]
    _, by_out, _ = Operands(sim, "fp32").doubling_weights(weight)
    np.testing.assert_array_equal(by_out.values, folded.transpose(3, 0, 1, 2))


@pytest.mark.parametrize("precision", LOST_BITS)
def test_operands_are_made_anew_where_they_are(sim, precision):
    """Those that were asked for, of several weights by one launch; folding one is another."""
    made_by = Operands(sim, precision)
    shapes = [(3, 3, 5, 40), (1, 1, 70, 33), (3, 3, 4, 9), (1, 1, 2, 3)]
    weights = [placed(sim, normals(i, *shape)) for i, shape in enumerate(shapes)]
    prepared = [PreparedWeight(weight, made_by) for weight in weights]
    made = [prepared[0].plain, prepared[1].plain, prepared[2].folded]
    for i, weight in enumerate(weights):
        weight[...] = normals(10 + i, *weight.shape)
    before = sim.launches
    made_by.refresh(prepared)
    assert sim.launches == before + 2
    expected = [*map(made_by.weights, weights[:2]), made_by.doubling_weights(weights[2])]
    for mine, exact in zip(made, expected, strict=True):
        for a, b in zip(mine[1:], exact[1:], strict=True):
            np.testing.assert_array_equal(a.values, b.values)
    assert prepared[3].made == (None, None)


def test_a_weight_with_gaps_is_refused(sim):
    """What is made anew of it would be that of a copy."""
    with pytest.raises(ValueError, match="no gaps"):
        PreparedWeight(normals(0, 3, 3, 4, 8)[..., ::2], Operands(sim, "fp32"))


@pytest.mark.parametrize("parts", [1, 2, 7, 9, 30, 150])
def test_partial_sums_take_every_part_once(sim, parts):
    partial = integers(0, parts, 5, 9)
    np.testing.assert_array_equal(summed(sim, partial), partial.sum(axis=0))
