"""Φ and its relatives against math.erfc, statistics.NormalDist and 80-digit decimal arithmetic."""

import decimal
import math
import statistics
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from montecarlo import consistent, ks_test, mutated, seed_of

from tinyddpm import rng
from tinyddpm.ops import normal

PI = Decimal(
    "3.14159265358979323846264338327950288419716939937510582097494459230781640628620899863"
)
ONE = Decimal(1)


@pytest.fixture(autouse=True)
def _eighty_digits():
    with decimal.localcontext() as context:
        context.prec = 80
        context.Emin = -999_999_999
        yield


def density(x: Decimal) -> Decimal:
    return (-x * x / 2).exp() / (2 * PI).sqrt()


def by_series(x: Decimal) -> Decimal:
    """Φ(x) = ½ + φ(x) (x + x³/3 + x⁵/(3·5) + …)."""
    total = term = x
    k = 3
    while abs(term) > Decimal("1e-80") * abs(total):
        term = term * x * x / k
        total += term
        k += 2
    return Decimal("0.5") + density(x) * total


def by_fraction(y: Decimal, depth: int = 1200) -> Decimal:
    """Φ(−y)/φ(y) = 1/(y + 1/(y + 2/(y + 3/(y + …)))), Laplace's continued fraction."""
    below = y
    for k in range(depth, 0, -1):
        below = y + k / below
    return ONE / below


def exact_cdf(x: float) -> Decimal:
    d = Decimal(x)
    if x < -4:
        return density(d) * by_fraction(-d)
    if x > 4:
        return ONE - density(d) * by_fraction(d)
    return by_series(d)


def relative_error(value: float, exact: Decimal) -> float:
    return float(abs((Decimal(float(value)) - exact) / exact))


# The branch points, both sides of each, and a spread without pattern.
POINTS = sorted(
    {
        *(
            s * b * (1 + e)
            for s in (-1, 1)
            for b in (0.67448975, 32**0.5)
            for e in (-1e-9, 0, 1e-9)
        ),
        *(-37.4 + 0.7173 * k for k in range(104)),
        *(-1e-9, -1e-300, 1e-300, 1e-9, 8.25, 20.0, 37.5),
    }
)


def test_the_two_high_precision_evaluations_agree():
    for y in (Decimal("4.5"), Decimal(5), Decimal(6)):
        assert abs(by_series(-y) / (density(y) * by_fraction(y)) - 1) < Decimal("1e-40")


def test_cdf_to_the_underflow():
    values = normal.cdf(np.array(POINTS))
    for x, value in zip(POINTS, values, strict=True):
        assert relative_error(value, exact_cdf(x)) < 1e-14, x
    assert normal.cdf(np.array([-38.4]))[0] > 0
    assert normal.cdf(np.array([-40.0, -np.inf, np.inf, 40.0])).tolist() == [0, 0, 1, 1]


def test_log_cdf_from_the_far_left_to_the_far_right():
    points = [*POINTS, -100.0, -1e3, -54321.0, -1e8, -1e100]
    values = normal.log_cdf(np.array(points))
    for x, value in zip(points, values, strict=True):
        d = Decimal(x)
        log_left = -d * d / 2 - (2 * PI).sqrt().ln() + (by_fraction(-d).ln() if x < -4 else 0)
        log_exact = log_left if x < -4 else exact_cdf(x).ln()
        if x < 17:  # beyond, 1 − Φ is below the 80 digits of the logarithm's argument
            assert relative_error(value, log_exact) < 1e-13, x
        else:
            assert relative_error(value, -density(d) * by_fraction(d)) < 1e-13, x
    assert normal.log_cdf(np.array([-np.inf, np.inf, -1e200])).tolist() == [-np.inf, 0, -np.inf]


def test_the_derivative_of_log_cdf_is_live_in_both_tails():
    points = [*POINTS, -100.0, -1e3, -1e8, -1e200]
    values = normal.log_cdf_derivative(np.array(points))
    for x, value in zip(points, values, strict=True):
        d = Decimal(x)
        exact = ONE / by_fraction(-d) if x < -4 else density(d) / exact_cdf(x)
        assert relative_error(value, exact) < 1e-13, x
    assert normal.log_cdf_derivative(np.array([-np.inf, np.inf])).tolist() == [np.inf, 0]


@given(st.floats(-1e4, 30.0))
def test_the_derivative_is_the_slope_of_log_cdf(x):
    h = 1e-4 * -x if x < -1 else 1e-4 / max(1.0, x)
    low, high = normal.log_cdf(np.array([x - h, x + h]))
    slope = normal.log_cdf_derivative(np.array([x]))[0]
    assert (high - low) / (2 * h) == pytest.approx(slope, rel=1e-5, abs=1e-300)


@given(st.floats(-37.0, 8.0))
def test_cdf_agrees_with_the_standard_library(x):
    assert normal.cdf(np.array([x]))[0] == pytest.approx(math.erfc(-x / 2**0.5) / 2, rel=1e-12)


TAILS = [5e-324, 1e-300, 1e-200, 1e-100, 1e-30, 1.3887943864964e-11, 1e-9, 1e-4, 0.02425, 0.0749999]
CENTRES = [0.075, 0.0750001, 0.3, 0.5 - 1e-12, 0.5 + 1e-9, 0.6, 0.925, 0.975, 0.9999, 1 - 1e-9]


def test_inverse_cdf_by_one_exact_newton_step():
    values = normal.inverse_cdf(np.array(TAILS + CENTRES))
    for u, x in zip(TAILS + CENTRES, values, strict=True):
        step = (exact_cdf(float(x)) - Decimal(u)) / density(Decimal(float(x)))
        assert abs(float(step)) < 1e-13 * abs(x), u


@given(st.floats(1e-300, 1.0, exclude_max=True))
def test_inverse_cdf_agrees_with_the_standard_library(u):
    expected = statistics.NormalDist().inv_cdf(u)
    assert normal.inverse_cdf(np.array([u]))[0] == pytest.approx(expected, rel=1e-13, abs=1e-300)


@given(st.floats(1e-300, 1.0, exclude_max=True))
def test_the_cdf_of_the_inverse_is_the_number_itself(u):
    x = normal.inverse_cdf(np.array([u]))
    assert normal.cdf(x)[0] == pytest.approx(u, rel=1e-12)


def test_the_ends_of_the_inverse():
    x = normal.inverse_cdf(np.array([0.0, 0.5, 1.0, -0.1, 1.1, np.nan]))
    np.testing.assert_array_equal(x, [-np.inf, 0, np.inf, np.nan, np.nan, np.nan])


@pytest.mark.parametrize(
    "function",
    [normal.cdf, normal.log_cdf, normal.log_cdf_derivative, normal.inverse_cdf],
)
def test_the_dtype_shape_and_nan_of_the_input_are_kept(function):
    x = np.linspace(0.01, 0.99, 12).reshape(3, 4)
    single = function(x.astype(np.float32))
    assert single.dtype == np.float32
    assert single.shape == (3, 4)
    assert function(x).dtype == np.float64
    np.testing.assert_allclose(single, function(x.astype(np.float32).astype(float)), rtol=6e-8)
    assert np.isnan(function(np.array([np.nan]))).all()


@pytest.mark.parametrize(
    "function",
    [normal.cdf, normal.log_cdf, normal.log_cdf_derivative, normal.inverse_cdf],
)
def test_integers_are_taken_as_numbers(function):
    found = function(np.array([0, 1]))
    np.testing.assert_array_equal(found, function(np.array([0.0, 1.0])))


def inverse_cdf_draws(module, seed):
    """Null: Φ⁻¹ of uniforms is standard normal. The standard library's Φ judges."""
    u = rng.uniform(seed, "noise", step=0, samples=np.arange(4), shape=(5000,))
    return ks_test(module.inverse_cdf(u), np.vectorize(statistics.NormalDist().cdf))


@given(st.integers(0, 2**32 - 1))
def test_sampling_by_the_inverse_cdf(seed):
    assert consistent(inverse_cdf_draws(normal, seed_of("inverse cdf", seed)))


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("outer = xp.sign(q) * ", "outer = "),
        ("xp.sqrt(-xp.log(", "(-xp.log("),
        ("0.425**2 - xp.clip(q, -0.425, 0.425) ** 2", "xp.clip(q, -0.425, 0.425) ** 2"),
    ],
)
def test_a_wrong_inverse_cdf_is_rejected(right, wrong):
    assert not consistent(inverse_cdf_draws(mutated(normal, right, wrong), 0))
