"""KL of Gaussians: by Monte Carlo, by its properties, and as the weight of the squared error."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from montecarlo import consistent, generator, mutated, subgamma_test

from tinyddpm.diffusion import kl
from tinyddpm.diffusion.gaussian import GaussianDiffusion
from tinyddpm.diffusion.kl import normal_kl
from tinyddpm.diffusion.schedule import NoiseSchedule

MEANS, LOG_VARIANCES = st.floats(-2, 2), st.floats(-2, 2)


def log_density(x, mean, log_variance):
    return -0.5 * (math.log(2 * math.pi) + log_variance + (x - mean) ** 2 / math.exp(log_variance))


def kl_by_monte_carlo(module, mean1, log_variance1, mean2, log_variance2, *parameters):
    """Null: the mean of log p₁(x) − log p₂(x) over x ~ p₁ is the divergence.

    With x = m₁ + σ₁ z the logarithm is a z² + b z + const, a = ½ (σ₁²/σ₂² − 1) and
    b = σ₁ (m₁ − m₂)/σ₂²; its logarithmic moment generating function, −½ log(1 − 2aθ) − aθ +
    ½ b²θ²/(1 − 2aθ) once centred, is at most ½ θ² (2a² + b²)/(1 − 2|aθ|).
    """
    arguments = mean1, log_variance1, mean2, log_variance2
    z = generator("kl", *arguments, *parameters).standard_normal(20_000)
    x = mean1 + math.exp(log_variance1 / 2) * z
    log_ratio = log_density(x, mean1, log_variance1) - log_density(x, mean2, log_variance2)
    a = 0.5 * (math.exp(log_variance1 - log_variance2) - 1)
    b = math.exp(log_variance1 / 2 - log_variance2) * (mean1 - mean2)
    divergence = module.normal_kl(*(np.array(value) for value in arguments)).item()
    return subgamma_test(log_ratio, divergence, 2 * a * a + b * b + 1e-20, 2 * abs(a))


@given(MEANS, LOG_VARIANCES, MEANS, LOG_VARIANCES, st.integers(0, 2**32 - 1))
def test_the_divergence_is_the_mean_of_the_log_ratio(m1, lv1, m2, lv2, seed):
    assert consistent(kl_by_monte_carlo(kl, m1, lv1, m2, lv2, seed))


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("log_variance1 - log_variance2", "log_variance2 - log_variance1"),
        ("xp.exp(-log_variance2)", "xp.exp(-log_variance1)"),
        ("xp.exp(-log_variance2)", "xp.exp(-0.5 * log_variance2)"),
        ("xp.expm1(ratio) - ratio", "xp.exp(ratio) - ratio"),
        ("0.5 * (from", "(from"),
    ],
)
def test_a_wrong_divergence_is_rejected(right, wrong):
    assert not consistent(kl_by_monte_carlo(mutated(kl, right, wrong), 0.5, -1.0, -0.3, 0.4))


@given(MEANS, LOG_VARIANCES, MEANS, LOG_VARIANCES)
def test_the_divergence_is_a_divergence(m1, lv1, m2, lv2):
    same = normal_kl(*(np.array(v) for v in (m1, lv1, m1, lv1)))
    assert same == 0
    divergence = normal_kl(*(np.array(v) for v in (m1, lv1, m2, lv2)))
    textbook = 0.5 * (lv2 - lv1 - 1 + math.exp(lv1 - lv2) + (m1 - m2) ** 2 * math.exp(-lv2))
    assert divergence >= 0
    assert divergence == pytest.approx(textbook, rel=1e-9, abs=1e-14)


def test_nearly_equal_variances_keep_their_digits():
    ratio = 1e-5
    exact = 0.5 * (ratio**2 / 2 + ratio**3 / 6 + ratio**4 / 24)
    found = normal_kl(*(np.array(v) for v in (0.3, ratio, 0.3, 0.0)))
    assert found == pytest.approx(exact, rel=1e-10)


def test_arguments_are_broadcast_in_their_dtype():
    image, column = np.ones((2, 3, 3, 1), np.float32), np.zeros((2, 1, 1, 1), np.float32)
    divergence = normal_kl(image, column, 0 * image, column)
    assert divergence.dtype == np.float32
    np.testing.assert_array_equal(divergence, np.full((2, 3, 3, 1), 0.5, np.float32))


@pytest.mark.parametrize("schedule", [NoiseSchedule.linear(), NoiseSchedule.cosine()])
@pytest.mark.parametrize("variance", ["beta", "beta_tilde"])
@pytest.mark.parametrize("t", [2, 10, 500, 1000])
def test_the_divergence_of_a_step_is_a_weighted_squared_error(schedule, variance, t):
    # Eq. 12: KL = w_t (ε − ε_θ)² + const, w_t = β_t²/(2 σ_t² α_t (1 − ᾱ_t)); and
    # w_t SNR_t = ½ (SNR_{t−1} − SNR_t) for σ² = β̃.
    diffusion = GaussianDiffusion(schedule, variance=variance)
    draw = generator("weight", t)
    x0, eps, output = draw.standard_normal((3, 2, 2, 2, 1))
    xt = diffusion.q_sample(x0, t, eps)
    true_mean, true_variance = diffusion.q_posterior(x0, xt, t)
    reverse = diffusion.p_mean_variance(output, xt, t, clip=False)
    found = normal_kl(true_mean, np.log(true_variance), reverse.mean, reverse.log_variance)
    sigma2 = getattr(schedule, variance)[t]
    noise = 1 - schedule.alpha_bar[t]
    weight = schedule.beta[t] ** 2 / (2 * sigma2 * schedule.alpha[t] * noise)
    ratio = schedule.beta_tilde[t] / sigma2
    expected = weight * (eps - output) ** 2 + 0.5 * (ratio - 1 - np.log(ratio))
    np.testing.assert_allclose(found, expected, rtol=1e-7)
    if variance == "beta_tilde":
        difference = (schedule.snr[t - 1] - schedule.snr[t]) / 2
        assert weight * schedule.snr[t] == pytest.approx(difference, rel=1e-9)


def test_numbers_are_broadcast_with_arrays():
    mean, log_variance = np.linspace(-1, 1, 5), np.linspace(-2, 2, 5)
    zeros = np.zeros(5)
    expected = normal_kl(zeros, zeros, mean, log_variance)
    np.testing.assert_array_equal(normal_kl(0.0, 0.0, mean, log_variance), expected)
    np.testing.assert_array_equal(normal_kl(mean, log_variance, 0.0, 0.0)[2], 0.0)
