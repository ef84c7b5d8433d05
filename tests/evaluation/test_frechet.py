"""The Fréchet distance where it has a closed form, what leaves it as it is, and its floor."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from montecarlo import consistent, generator, mutated, z_test

from tinyddpm.errors import NonFiniteError, UsageError
from tinyddpm.evaluation import frechet
from tinyddpm.evaluation.frechet import Moments, floor_constant, frechet_distance, moments

variances = st.lists(st.floats(0.0, 9.0), min_size=3, max_size=3).map(np.array)
means = st.lists(st.floats(-5.0, 5.0), min_size=3, max_size=3).map(np.array)
seeds = st.integers(0, 99)


def random_moments(seed, dims=4, count=50):
    random = np.random.default_rng(seed)
    mixed = random.standard_normal((count, dims)) @ random.standard_normal((dims, dims))
    return moments(mixed + random.standard_normal(dims))


def rotation(seed, dims=4):
    return np.linalg.qr(np.random.default_rng(seed).standard_normal((dims, dims)))[0]


@given(variances, variances, means, means, seeds)
def test_variances_along_the_same_axes(a, b, mean_a, mean_b, seed):
    """d² = ‖μ₁ − μ₂‖² + Σ (√a − √b)², whichever way the axes point."""
    q = rotation(seed, 3)
    one, other = (Moments(q @ m, (q * v) @ q.T) for m, v in ((mean_a, a), (mean_b, b)))
    expected = np.square(mean_a - mean_b).sum() + np.square(np.sqrt(a) - np.sqrt(b)).sum()
    assert frechet_distance(one, other) == pytest.approx(expected, abs=1e-6)


@given(seeds, seeds)
def test_two_dimensions(seed_a, seed_b):
    """For 2×2 matrices tr M^½ = √(tr M + 2 √det M), also where the axes differ."""
    one, other = random_moments(seed_a, 2), random_moments(100 + seed_b, 2)
    product = one.covariance @ other.covariance
    root = math.sqrt(np.trace(product) + 2 * math.sqrt(np.linalg.det(product)))
    expected = np.square(one.mean - other.mean).sum() - 2 * root
    expected += np.trace(one.covariance) + np.trace(other.covariance)
    assert frechet_distance(one, other) == pytest.approx(expected, rel=1e-6)


@given(seeds, seeds, st.floats(0.1, 10.0))
def test_what_changes_nothing_and_what_scales(seed, other_seed, scale):
    one, other = random_moments(seed), random_moments(100 + other_seed)
    distance = frechet_distance(one, other)
    assert distance > 0
    assert frechet_distance(other, one) == pytest.approx(distance, rel=1e-6)
    assert frechet_distance(one, one) == pytest.approx(0.0, abs=1e-6 * np.trace(one.covariance))
    q, shift = rotation(seed + other_seed), np.arange(4.0)
    moved = [Moments(q @ m.mean + shift, q @ m.covariance @ q.T) for m in (one, other)]
    assert frechet_distance(*moved) == pytest.approx(distance, rel=1e-6)
    scaled = [Moments(scale * m.mean, scale**2 * m.covariance) for m in (one, other)]
    assert frechet_distance(*scaled) == pytest.approx(scale**2 * distance, rel=1e-6)


def test_fewer_images_than_features_are_no_obstacle():
    few, many = (moments(np.random.default_rng(n).standard_normal((n, 40))) for n in (7, 500))
    assert frechet_distance(few, few) == pytest.approx(0.0, abs=1e-6 * np.trace(few.covariance))
    assert 10 < frechet_distance(few, many) < 100


def test_moments_are_those_of_numpy_in_float64():
    x = np.random.default_rng(0).standard_normal((30, 5)).astype(np.float32) + 100
    found = moments(x)
    assert found.covariance.dtype == np.float64
    np.testing.assert_allclose(found.mean, x.astype(float).mean(axis=0), rtol=1e-14)
    np.testing.assert_allclose(found.covariance, np.cov(x.astype(float).T), rtol=1e-10)
    exact = x.astype(float)
    moments(exact)
    np.testing.assert_array_equal(exact, x)  # what is given is not centred


def test_what_has_no_moments_is_refused():
    with pytest.raises(UsageError, match="at least 2"):
        moments(np.zeros((1, 3)))
    with pytest.raises(NonFiniteError, match="finite"):
        moments(np.array([[0.0, np.nan], [1.0, 2.0]]))


SPREAD = np.array([4.0, 1.0, 1.0, 0.25])


def drawn_distances(n, m, draws=2000):
    """Of so many pairs of samples of one normal distribution with eigenvalues ``SPREAD``."""
    random = generator("frechet floor", n, m)
    q = rotation(0)
    for _ in range(draws):
        one, other = (
            moments((random.standard_normal((k, 4)) * np.sqrt(SPREAD)) @ q.T) for k in (n, m)
        )
        yield frechet_distance(one, other)


@pytest.mark.parametrize(("n", "m"), [(1000, 800), (2000, 500)])
def test_the_floor_is_what_chance_makes_of_it(n, m):
    found = np.array(list(drawn_distances(n, m)))
    reference = Moments(np.zeros(4), np.diag(SPREAD))
    error = found.std(ddof=1) / math.sqrt(len(found))

    def agrees(constant):
        return consistent(z_test(found.mean(), constant * (1 / n + 1 / m), error))

    assert agrees(floor_constant(reference))
    for right, wrong in (
        ("pairs.sum() + 0.5 * variances.sum()", "pairs.sum()"),  # the diagonal counts twice
        ("variances.sum() + 0.5 *", "0.5 *"),  # means differ too
        ("(pairs.sum() +", "(2 * pairs.sum() +"),
    ):
        assert not agrees(mutated(frechet, right, wrong).floor_constant(reference))


def test_a_feature_that_never_varies_has_no_part_in_the_floor():
    some, more = np.diag(SPREAD), np.diag([*SPREAD, 0.0])
    expected = floor_constant(Moments(np.zeros(4), some))
    assert floor_constant(Moments(np.zeros(5), more)) == pytest.approx(expected)
