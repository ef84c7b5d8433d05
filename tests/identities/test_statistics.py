"""P-values: never too small under the null, and small where something is wrong, or no number."""

import math

import numpy as np
import pytest
from montecarlo import broken, generator, z_test

from tinyddpm.diffusion import kl
from tinyddpm.diffusion.kl import normal_kl
from tinyddpm.identities.registry import Setting, identity
from tinyddpm.identities.statistics import (
    chi2_test,
    exactly,
    frequency_test,
    gaussian_test,
    ks_test,
    regression_test,
    subgamma_test,
)
from tinyddpm.ops import normal

REPEATS, N = 2000, 60
P = np.array([0.5, 0.3, 0.15, 0.05])


def regression(z):
    x = generator("regressors").standard_normal((2, N))
    return regression_test(2 * x[0] - x[1] + 0.3 * z, list(x), [2, -1], 0.09)


def classes(z):
    edges = normal.inverse_cdf(np.cumsum(P)[:-1])
    return frequency_test(np.bincount(np.searchsorted(edges, z), minlength=4), P)


# Each is a function of N standard normals, under its null.
UNDER_THE_NULL = {
    "z": lambda z: z_test(z.mean(), 0.0, N**-0.5),
    "chi2": lambda z: chi2_test(z @ z, N),
    "ks": lambda z: ks_test(z, normal.cdf),
    "ks with slack": lambda z: ks_test(z + 0.05, normal.cdf, slack=0.02),
    "frequency": classes,
    "subgamma": lambda z: subgamma_test(z**2, 1.0, 2.0, 2.0),
    "subgamma, bounded": lambda z: subgamma_test((z > 1) * 1.0, 1 - 0.84134475, 0.1335, 0.85 / 3),
    "coefficients": lambda z: regression(z)[0],
    "residuals": lambda z: regression(z)[1],
}


@pytest.mark.parametrize("name", UNDER_THE_NULL)
def test_no_p_value_is_too_small_too_often(name):
    """P(p ≤ u) ≤ u: of 2000 at most 2000 u, but for 6 standard deviations of the count."""
    draws = generator("null", name).standard_normal((REPEATS, N))
    p = np.exp([UNDER_THE_NULL[name](z).log_p for z in draws])
    for u in (0.3, 0.1, 0.01):
        assert np.sum(p <= u) <= REPEATS * u + 6 * math.sqrt(REPEATS * u)
    assert p.min() < 0.3  # nor is it always large


@pytest.mark.parametrize("name", UNDER_THE_NULL)
def test_what_is_not_the_null_is_rejected(name):
    z = 20.0 + 30.0 * generator("alternative", name).standard_normal(N)
    assert UNDER_THE_NULL[name](z).log_p < math.log(1e-7)


def test_a_gaussian_is_compared_in_mean_variance_and_shape():
    z = generator("shape").standard_normal(4000)
    assert min(c.log_p for c in gaussian_test(3 + 2 * z, 3.0, 4.0)) > -5
    shifted, wide, flat = z + 0.2, 1.2 * z, np.sign(z)
    for i, sample in enumerate((shifted, wide, flat)):
        assert gaussian_test(sample, 0.0, 1.0)[i].log_p < -15


def test_a_class_that_cannot_be_is_impossible():
    assert frequency_test(np.array([5, 1]), np.array([1.0, 0.0])).log_p == -math.inf
    assert frequency_test(np.array([5, 0]), np.array([1.0, 0.0])).log_p > 0


def identity_of(*comparisons):
    return identity("i", "name", "equation", normal_kl)(lambda _: comparisons)


SETTING = Setting.drawn(0, 1000)


def test_what_is_exact_holds_within_its_tolerance_at_any_level():
    for error, holds in ((1e-9, True), (1.1e-9, False), (math.nan, False), (math.inf, False)):
        outcome = identity_of(exactly(0.0, 1e-12), exactly(error, 1e-9))(SETTING)
        assert outcome.holds(0.999) == outcome.holds(1e-300) == holds
        assert outcome.tolerance == 1e-9


def test_an_identity_is_its_least_likely_comparison_times_their_number():
    one, other = z_test(3.0, 0.0, 1.0), z_test(-5.0, 0.0, 1.0)
    outcome = identity_of(one, exactly(0.0, 1e-9), other)(SETTING)
    assert (outcome.kind, outcome.statistic) == ("z", -5.0)
    assert outcome.p_value == pytest.approx(3 * math.erfc(5 / math.sqrt(2)), rel=1e-9)
    assert identity_of(*[z_test(0.1, 0.0, 1.0)] * 9)(SETTING).p_value == 1


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_number_that_is_none_is_rejected(value):
    sample = np.full(10, value)
    with np.errstate(all="ignore"):
        for comparison in (
            z_test(value, 0.0, 1.0),
            chi2_test(value, 5),
            ks_test(sample, normal.cdf),
            subgamma_test(sample, 0.0, 1.0, 1.0),
        ):
            assert not identity_of(z_test(0.0, 0.0, 1.0), comparison)(SETTING).holds(1e-7)


def test_a_bug_is_put_into_the_module_itself_and_taken_out_again():
    arguments = [np.array(value) for value in (1.0, 0.0, 0.0, 0.0)]
    assert normal_kl(*arguments) == 0.5
    with broken(kl, "0.5 * (from", "1.5 * (from"):
        assert normal_kl(*arguments) == 1.5
        with broken(kl, "ratio = log_variance1", "ratio = 1 + log_variance1"):
            assert normal_kl(*arguments) > 0.5
    assert normal_kl(*arguments) == 0.5
    with pytest.raises(AssertionError, match="0 times"), broken(kl, "not there", ""):
        pass
