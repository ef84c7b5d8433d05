"""Dropout on the simulated GPU against the reference, of float32 and of operands."""

import numpy as np
import pytest
from conv_twins import normals, placed

from tinyddpm.arrays import to_host
from tinyddpm.kernels.cuda.dropout import Dropout
from tinyddpm.kernels.cuda.operands import Operands
from tinyddpm.ops.dropout import dropout, dropout_backward

pytestmark = pytest.mark.cuda_sim
RATE = 0.3
SHAPES = [(1, 1, 1, 8), (2, 3, 5, 8), (1, 1, 1, 1), (1, 3, 3, 3), (1, 1, 257, 1), (3, 16, 16, 2)]


@pytest.fixture(params=["simulated", pytest.param("gpu", marks=pytest.mark.cuda)])
def device(request):
    return request.getfixturevalue("sim" if request.param == "simulated" else "gpu")


def kept(device, shape):
    """A mask on the device, as those of a training step are: bytes seen as bools."""
    keep = device.empty(shape, np.uint8)
    device.upload((normals(5, *shape) > -0.5).astype(np.uint8), keep)
    return keep.view(np.bool_)


def decoded(bits):
    if bits.dtype == np.uint16:
        bits = bits.astype(np.uint32) << 16
    return bits.view(np.float32)


@pytest.mark.parametrize("shape", SHAPES)
def test_is_the_reference(device, shape):
    x, dy, keep = normals(0, *shape), normals(1, *shape), kept(device, shape)
    exact, saved_exact = dropout(x.astype(float), to_host(keep), rate=RATE)
    y, saved = Dropout(device).forward(placed(device, x), keep, rate=RATE)
    dx = Dropout(device).backward(placed(device, dy), saved)
    np.testing.assert_allclose(to_host(y), exact, rtol=1e-6)
    np.testing.assert_allclose(
        to_host(dx), dropout_backward(dy.astype(float), saved_exact), rtol=1e-6
    )
    assert (to_host(y)[~to_host(keep)] == 0).all()


@pytest.mark.parametrize(("precision", "dtype"), [("bf16", np.uint16), ("tf32", np.uint32)])
@pytest.mark.parametrize("shape", SHAPES[:2])
def test_operands_are_scaled_and_rounded_to_nearest(device, shape, precision, dtype):
    operands, keep = Operands(device, precision), kept(device, shape)
    x = operands.image(placed(device, normals(0, *shape))).values
    exact, _ = dropout(decoded(to_host(x)), to_host(keep), rate=RATE)
    expected = operands.image(placed(device, exact.astype(np.float32))).values
    y, _ = Dropout(device).forward(x, keep, rate=RATE)
    assert y.dtype == dtype
    np.testing.assert_array_equal(decoded(to_host(y)), decoded(to_host(expected)))


def test_refuses_a_mask_of_another_shape(sim):
    with pytest.raises(ValueError, match=r"\(2, 3, 3, 4\): got \(1, 3, 3, 4\)"):
        Dropout(sim).forward(normals(0, 2, 3, 3, 4), kept(sim, (1, 3, 3, 4)), rate=RATE)


def test_takes_views_with_gaps(sim):
    x, keep = normals(0, 2, 3, 3, 8), kept(sim, (2, 3, 3, 4))
    y, _ = Dropout(sim).forward(placed(sim, x)[..., 4:], keep, rate=RATE)
    expected, _ = Dropout(sim).forward(placed(sim, x[..., 4:]), keep, rate=RATE)
    np.testing.assert_array_equal(y, expected)
