"""The ops of a classifier against their definitions."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from montecarlo import mutated

from tinyddpm.gradcheck.complex_step import certify
from tinyddpm.gradcheck.ops import op_cases
from tinyddpm.ops import cross_entropy as cross_entropy_module
from tinyddpm.ops import max_pool as max_pool_module
from tinyddpm.ops import relu as relu_module
from tinyddpm.ops.cross_entropy import cross_entropy, cross_entropy_backward
from tinyddpm.ops.max_pool import max_pool, max_pool_backward
from tinyddpm.ops.relu import relu, relu_backward

sides, counts = st.integers(1, 4), st.integers(1, 3)


def test_relu_cuts_off_what_is_negative():
    y, saved = relu(np.array([-2.0, 0.0, 3.0]))
    np.testing.assert_array_equal(y, [0, 0, 3])
    np.testing.assert_array_equal(relu_backward(np.ones(3), saved), [0, 0, 1])


@given(n=counts, height=sides, width=sides, channels=counts, seed=st.integers(0, 99))
def test_max_pool_is_its_definition(n, height, width, channels, seed):
    random = np.random.default_rng(seed)
    x = random.integers(0, 3, (n, 2 * height, 2 * width, channels)).astype(float)  # many are equal
    y, saved = max_pool(x)
    dy = 1 + random.random(y.shape)
    dx = max_pool_backward(dy, saved)
    for image, i, j, c in np.ndindex(*y.shape):
        here = np.s_[image, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2, c]
        assert y[image, i, j, c] == x[here].max()
        expected = np.zeros(4)
        expected[x[here].argmax()] = dy[image, i, j, c]
        np.testing.assert_array_equal(dx[here].ravel(), expected)


@pytest.mark.parametrize("shape", [(1, 3, 4, 1), (1, 4, 5, 1)])
def test_max_pool_refuses_odd_sides(shape):
    with pytest.raises(ValueError, match="even"):
        max_pool(np.zeros(shape))


@given(n=counts, classes=st.integers(1, 5), seed=st.integers(0, 99))
def test_cross_entropy_is_its_definition(n, classes, seed):
    random = np.random.default_rng(seed)
    x, labels = random.standard_normal((n, classes)), random.integers(0, classes, n)
    p = np.exp(x) / np.exp(x).sum(axis=1, keepdims=True)
    value, saved = cross_entropy(x, labels)
    assert value == pytest.approx(-np.log(p[np.arange(n), labels]).mean())
    one_hot = np.eye(classes)[labels]
    np.testing.assert_allclose(cross_entropy_backward(0.7, saved), 0.7 * (p - one_hot) / n)


def test_cross_entropy_survives_large_logits():
    x = np.array([[1e4, 0.0, -1e4], [1e4, 0.0, -1e4]], np.float32)
    value, saved = cross_entropy(x, np.array([0, 2]))
    assert value == 1e4
    dx = cross_entropy_backward(np.float32(1), saved)
    np.testing.assert_array_equal(dx, [[0, 0, 0], [0.5, 0, -0.5]])
    assert dx.dtype == np.float32


@pytest.mark.parametrize(
    ("module", "right", "wrong"),
    [
        (relu_module, "dy * saved.positive", "dy"),
        (max_pool_module, "open_ & (_tap(x, a, b) == y)", "open_"),
        (cross_entropy_module, "-= 1", "-= 2"),
        (cross_entropy_module, "dvalue / len(dx)", "dvalue"),
    ],
)
def test_a_wrong_backward_is_not_certified(module, right, wrong):
    name = module.__name__.rpartition(".")[2]
    case = next(c for c in op_cases() if c.name == name)
    backward = vars(mutated(module, right, wrong))[f"{name}_backward"]
    assert certify(case).holds
    broken = type(case)(name, case.forward, lambda dy, saved: (backward(dy, saved),), case.inputs)
    assert not certify(broken).holds
