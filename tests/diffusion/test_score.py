"""The score: the gradient of a density that is known, and one more name for ε and x_0."""

import numpy as np
import pytest
from gaussian_data import GaussianData
from hypothesis import given
from hypothesis import strategies as st
from montecarlo import mutated

from tinyddpm import errors
from tinyddpm.diffusion import score as scores
from tinyddpm.diffusion.gaussian import GaussianDiffusion
from tinyddpm.diffusion.schedule import NoiseSchedule

SCHEDULE = NoiseSchedule.cosine(20)
SHAPE = (5, 3, 2, 1)
TIMES = np.array([1, 5, 10, 19, 20])


def images(seed, count):
    return np.random.default_rng(seed).standard_normal((count, *SHAPE))


def gradient_by_complex_step(log_density, x):
    """Of a density that is a product over pixels."""
    return log_density(x + 1e-30j).imag / 1e-30


def score_of_gaussian_data(module, mean, variance, xt):
    data = GaussianData(mean, variance, SCHEDULE)
    found = module.score_from_eps(SCHEDULE, data(xt, TIMES), TIMES)
    alpha_bar = SCHEDULE.alpha_bar[TIMES].reshape(-1, 1, 1, 1)

    def log_density(x):
        spread = alpha_bar * variance + 1 - alpha_bar
        return -0.5 * (x - np.sqrt(alpha_bar) * mean) ** 2 / spread

    return found, gradient_by_complex_step(log_density, xt)


@given(st.floats(-1, 1), st.floats(0.01, 4.0), st.integers(0, 2**32 - 1))
def test_the_score_is_the_gradient_of_the_log_density(mean, variance, seed):
    (xt,) = images(seed, 1)
    found, expected = score_of_gaussian_data(scores, mean, variance, xt)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("= -eps / noise\n", "= eps / noise\n"),
        ("= -eps / noise\n", "= -eps / noise**2\n"),
        ("np.sqrt(schedule.one_minus_alpha_bar)", "schedule.one_minus_alpha_bar"),
    ],
)
def test_a_wrong_score_is_rejected(right, wrong):
    found, expected = score_of_gaussian_data(
        mutated(scores, right, wrong), 0.3, 0.5, images(0, 1)[0]
    )
    assert np.abs(found - expected).max() > 0.1


@given(st.integers(0, 2**32 - 1))
def test_given_x0_it_is_the_gradient_of_the_forward_density(seed):
    x0, eps = images(seed, 2)
    xt = GaussianDiffusion(SCHEDULE).q_sample(x0, TIMES, eps)
    alpha_bar = SCHEDULE.alpha_bar[TIMES].reshape(-1, 1, 1, 1)

    def log_density(x):
        return -0.5 * (x - np.sqrt(alpha_bar) * x0) ** 2 / (1 - alpha_bar)

    expected = gradient_by_complex_step(log_density, xt)
    for found in (
        scores.score_from_eps(SCHEDULE, eps, TIMES),
        scores.score_from_x0(SCHEDULE, xt, x0, TIMES),
    ):
        np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-10)


@given(st.integers(0, 2**32 - 1), st.sampled_from(["eps", "x0", "v", "score"]))
def test_all_forms_say_the_same(seed, predict):
    xt, output = images(seed, 2)
    diffusion = GaussianDiffusion(SCHEDULE, predict)
    x0 = diffusion.predict_x0(xt, TIMES, output)
    eps = diffusion.predict_eps(xt, TIMES, x0)
    score = scores.score_from_x0(SCHEDULE, xt, x0, TIMES)
    # x̂_0 from ε is divided by √ᾱ_T, which the clipped cosine makes small.
    np.testing.assert_allclose(scores.score_from_eps(SCHEDULE, eps, TIMES), score, atol=1e-9)
    np.testing.assert_allclose(scores.eps_from_score(SCHEDULE, score, TIMES), eps, atol=1e-9)
    again = scores.x0_from_score(SCHEDULE, xt, score, TIMES)
    np.testing.assert_allclose(again, x0, rtol=1e-7, atol=1e-9)


def test_a_network_of_the_score_samples_as_the_network_of_eps_that_it_is():
    schedule = NoiseSchedule.linear(25)
    diffusion, data = GaussianDiffusion(schedule), GaussianData(0.2, 0.3, schedule)

    def score_network(xt, t):
        return scores.score_from_eps(schedule, data(xt, t), t)

    found = diffusion.sample(scores.eps_model(schedule, score_network), SHAPE, dtype=np.float64)
    np.testing.assert_allclose(found, diffusion.sample(data, SHAPE, dtype=np.float64), atol=1e-12)


def test_the_simple_loss_is_denoising_score_matching():
    eps, eps_hat = images(1, 2)
    s, s_hat = (scores.score_from_eps(SCHEDULE, e, TIMES) for e in (eps, eps_hat))
    weight = (1 - SCHEDULE.alpha_bar[TIMES]).reshape(-1, 1, 1, 1)
    np.testing.assert_allclose(weight * (s - s_hat) ** 2, (eps - eps_hat) ** 2, rtol=1e-9)


def test_dtypes_are_kept_and_times_checked():
    x = images(2, 1)[0].astype(np.float32)
    calls = [
        lambda x, t: scores.score_from_eps(SCHEDULE, x, t),
        lambda x, t: scores.eps_from_score(SCHEDULE, x, t),
        lambda x, t: scores.score_from_x0(SCHEDULE, x, x, t),
        lambda x, t: scores.x0_from_score(SCHEDULE, x, x, t),
    ]
    for call in calls:
        assert call(x, 3).dtype == np.float32
        for t in (0, 21):
            with pytest.raises(errors.UsageError, match="t must lie"):
                call(x, t)
        with pytest.raises(errors.UsageError, match="floating-point"):
            call(x.astype(np.int8), 3)
