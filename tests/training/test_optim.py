"""The updates against their formulas, written out in float64."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyddpm import optim


def random(seed, n=50):
    return np.random.default_rng(seed).standard_normal(n)


def test_adam_is_algorithm_1():
    value, m, v = random(0), np.zeros(50), np.zeros(50)
    expected, m_sum, v_sum = value.copy(), np.zeros(50), np.zeros(50)
    for step in range(1, 6):
        grad = random(step)
        optim.adam(value, grad, m, v, step=step, lr=0.1)
        # The moments as weighted sums of all gradients so far, not as recursions.
        weights1 = [0.1 * 0.9 ** (step - i) for i in range(1, step + 1)]
        weights2 = [0.001 * 0.999 ** (step - i) for i in range(1, step + 1)]
        m_sum = sum(w * random(i) for i, w in enumerate(weights1, start=1))
        v_sum = sum(w * random(i) ** 2 for i, w in enumerate(weights2, start=1))
        m_hat, v_hat = m_sum / sum(weights1), v_sum / sum(weights2)
        expected -= 0.1 * m_hat / (np.sqrt(v_hat) + 1e-8)
        np.testing.assert_allclose(value, expected, rtol=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_updates_keep_the_dtype_and_the_gradient(dtype):
    value, grad = random(0).astype(dtype), random(1).astype(dtype)
    m, v, before = np.zeros(50, dtype), np.zeros(50, dtype), grad.copy()
    optim.adam(value, grad, m, v, step=1, lr=0.1)
    assert {value.dtype, m.dtype, v.dtype} == {np.dtype(dtype)}
    np.testing.assert_array_equal(grad, before)


@given(limit=st.floats(0.01, 100), scale=st.floats(0.01, 100))
def test_clipping_caps_the_norm_and_keeps_the_direction(limit, scale):
    grad = scale * random(0)
    norm = optim.global_norm(grad)
    assert float(norm) == pytest.approx(math.sqrt(sum(g * g for g in grad)))
    clipped = grad.copy()
    optim.clip_by_norm(clipped, norm, limit)
    expected = grad * min(1.0, limit / float(norm))
    np.testing.assert_allclose(clipped, expected, rtol=1e-9)


def test_a_gradient_of_zero_is_clipped_to_zero():
    grad = np.zeros(50)
    optim.clip_by_norm(grad, optim.global_norm(grad), 1.0)
    np.testing.assert_array_equal(grad, 0)


def test_the_average_is_a_weighted_sum_of_the_past():
    average = random(0)
    expected = average.copy()
    for k in range(1, 200):
        decay = optim.ema_decay(k, 0.9)
        assert decay == min(0.9, (1 + k) / (10 + k))
        optim.ema(average, random(k), decay)
        expected = decay * expected + (1 - decay) * random(k)
    np.testing.assert_allclose(average, expected, rtol=1e-10)
    assert 0.99 ** optim.ema_half_life(0.99) == pytest.approx(0.5)


def test_the_learning_rate_warms_up_and_stays():
    rates = [optim.learning_rate(step, 2.0, 4, 0) for step in (1, 2, 4, 5, 10**6)]
    assert rates == [0.5, 1.0, 2.0, 2.0, 2.0]
    assert optim.learning_rate(1, 2.0, 0, 0) == 2.0


def test_the_learning_rate_falls_as_one_over_the_root_of_the_step():
    rates = [optim.learning_rate(step, 2.0, 4, 100) for step in (2, 100, 400, 10_000)]
    assert rates == [1.0, 2.0, 1.0, 0.2]
