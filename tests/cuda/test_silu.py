"""SiLU on the simulated GPU against the reference."""

import numpy as np
import pytest
import twins
from conv_twins import normals, placed

from tinyddpm.kernels.cuda.operands import Operands
from tinyddpm.kernels.cuda.silu import Silu

pytestmark = pytest.mark.cuda_sim


@pytest.mark.parametrize("shape", [(1,), (3, 85), (2, 4, 8, 4), (257,)])
def test_is_the_reference(sim, shape):
    assert twins.largest_error(twins.silu(sim).results([shape], normals)) < 1e-6


@pytest.mark.parametrize(("precision", "dtype"), [("bf16", np.uint16), ("tf32", np.uint32)])
@pytest.mark.parametrize("channels", [16, 17])
def test_what_goes_into_a_product_is_written_as_its_operand(sim, precision, dtype, channels):
    x, operands = placed(sim, normals(0, 3, channels)), Operands(sim, precision)
    y, saved = Silu(sim, precision).forward(x)
    assert y.dtype == (np.float32 if channels % 8 else dtype)
    plain, saved_plain = Silu(sim).forward(x)
    expected = operands.image(plain).values
    np.testing.assert_array_equal(operands.image(y).values, expected)
    dy = placed(sim, normals(1, 3, channels))
    gradients = Silu(sim, precision).backward(dy, saved), Silu(sim).backward(dy, saved_plain)
    np.testing.assert_array_equal(*gradients)


def test_neither_end_overflows(sim):
    x = placed(sim, np.array([-1e4, -200, -90, 0, 90, 200, 1e4], np.float32))
    silu = Silu(sim)
    y, saved = silu.forward(x)
    np.testing.assert_array_equal(y, [0, 0, 0, 0, 90, 200, 1e4])
    dx = silu.backward(placed(sim, np.ones_like(x)), saved)
    np.testing.assert_allclose(dx, [0, 0, 0, 0.5, 1, 1, 1], atol=1e-30)


def test_takes_views_with_gaps(sim):
    x = placed(sim, normals(0, 6, 10))
    y, _ = Silu(sim).forward(x[:, ::2])
    np.testing.assert_array_equal(y, Silu(sim).forward(x)[0][:, ::2])
