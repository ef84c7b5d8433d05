"""χ² of homogeneity: its tail, and its p-values where nothing differs."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from montecarlo import consistent, generator, ks_test

from tinyddpm.evaluation.homogeneity import chi2_tail, homogeneity

counts = st.lists(st.integers(1, 500), min_size=4, max_size=4).map(np.array)


@pytest.mark.parametrize(
    ("degrees", "chi2", "p"),
    [  # from any table
        (1, 3.841, 0.05),
        (2, 5.991, 0.05),
        (4, 9.488, 0.05),
        (9, 16.919, 0.05),
        (9, 21.666, 0.01),
        (9, 4.168, 0.90),
        (30, 43.773, 0.05),
    ],
)
def test_the_tail_is_that_of_the_tables(degrees, chi2, p):
    assert chi2_tail(chi2, degrees) == pytest.approx(p, rel=2e-3)


@given(st.integers(1, 40), st.floats(0.01, 200.0))
def test_the_tail_falls_as_the_density_says(degrees, chi2):
    step = 1e-4 * chi2
    slope = (chi2_tail(chi2 + step, degrees) - chi2_tail(chi2 - step, degrees)) / (2 * step)
    k = degrees / 2
    density = math.exp((k - 1) * math.log(chi2) - chi2 / 2 - k * math.log(2) - math.lgamma(k))
    assert -slope == pytest.approx(density, rel=1e-4, abs=1e-9)
    assert 0 <= chi2_tail(chi2, degrees) <= 1 + 1e-12


def test_the_tail_begins_at_1():
    assert chi2_tail(0.0, 9) == 1.0
    assert chi2_tail(1e4, 9) == 0.0


@given(counts, counts)
def test_the_statistic_is_pearsons(one, other):
    """Σ (observed − expected)²/expected over the table of both rows."""
    table = np.stack([one, other])
    expected = table.sum(axis=1, keepdims=True) * table.sum(axis=0) / table.sum()
    found = homogeneity(one, other)
    assert found.chi2 == pytest.approx((np.square(table - expected) / expected).sum(), abs=1e-9)
    assert found.degrees == 3
    assert homogeneity(other, one).chi2 == pytest.approx(found.chi2)


def test_equal_shares_differ_in_nothing():
    found = homogeneity(np.array([10, 20, 0]), np.array([100, 200, 0]))
    assert found.chi2 == pytest.approx(0.0, abs=1e-12)
    assert found.degrees == 1  # a class that nobody has tells nothing
    assert found.p == pytest.approx(1.0)
    assert homogeneity(np.array([5]), np.array([7])).p == 1.0


def test_p_is_uniform_where_nothing_differs_and_small_where_it_does():
    random = generator("homogeneity")
    shares = random.dirichlet(np.full(10, 20.0))
    other = shares * np.linspace(0.8, 1.2, 10)
    same, different = (
        np.array(
            [
                homogeneity(random.multinomial(n, s), random.multinomial(m, shares)).p
                for n, m in [(1000, 6000)] * 400
            ]
        )
        for s in (shares, other / other.sum())
    )

    def uniform(p):
        return consistent(ks_test(p, lambda x: x, slack=0.02))  # the law is exact for large n

    assert uniform(same)
    assert not uniform(different)
