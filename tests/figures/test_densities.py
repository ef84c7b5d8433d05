"""The densities that several plots draw, against the standard library and by summing."""

import statistics

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyddpm.figures.densities import KINDS, kinds_density, noised_density, normal_density

means, variances = st.floats(-1, 1), st.floats(0.01, 1)
kept = st.floats(0.02, 0.98)  # ᾱ_t


@given(x=st.floats(-4, 4), mean=means, variance=variances)
def test_the_normal_density_is_that_of_the_standard_library(x, mean, variance):
    expected = statistics.NormalDist(mean, variance**0.5).pdf(x)
    found = normal_density(np.array([x]), mean, variance)
    assert found == pytest.approx(np.array([expected]), rel=1e-9, abs=1e-300)


@given(x=st.floats(-3, 3), mean=means, variance=variances, alpha_bar=kept)
def test_the_density_of_x_t_is_the_integral_over_x_0(x, mean, variance, alpha_bar):
    """∫ q(x_0) 𝒩(x; √ᾱ_t x_0, 1 − ᾱ_t) dx_0, by a sum of fine steps."""
    x_0, step = np.linspace(mean - 10, mean + 10, 20_001, retstep=True)
    forward = normal_density(x - alpha_bar**0.5 * x_0, 0.0, 1 - alpha_bar)
    expected = step * (normal_density(x_0, mean, variance) * forward).sum()
    found = noised_density(np.array([x]), mean, variance, alpha_bar)
    assert found == pytest.approx(np.array([expected]), rel=1e-9, abs=1e-12)


@given(alpha_bar=st.floats(0, 1))
def test_the_density_of_all_kinds_has_their_weights(alpha_bar):
    x, step = np.linspace(-12, 12, 24_001, retstep=True)
    density = kinds_density(x, alpha_bar)
    mean = sum(weight * mean for weight, mean, _ in KINDS)
    assert step * density.sum() == pytest.approx(1)
    assert step * (x * density).sum() == pytest.approx(alpha_bar**0.5 * mean, abs=1e-9)
