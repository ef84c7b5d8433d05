"""The equations of both chains, each against another derivation."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyddpm.diffusion.gaussian import GaussianDiffusion
from tinyddpm.diffusion.schedule import NoiseSchedule

SHAPE = (3, 4, 2, 2)
PREDICTIONS = ("eps", "x0", "v", "score")
SEEDS = st.integers(0, 2**32 - 1)
CHAINS = st.builds(NoiseSchedule.from_beta, st.lists(st.floats(1e-4, 0.9), min_size=2, max_size=10))
LONG = [NoiseSchedule.linear(), NoiseSchedule.cosine(), NoiseSchedule.log_snr_linear(1000)]


def images(seed, count=2):
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(SHAPE) for _ in range(count)]


def posterior_weights(diffusion, t):
    """What q_posterior makes of (x0, xt) = (1, 0) and (0, 1), and its variance."""
    one, zero = np.ones((1, 1, 1, 1)), np.zeros((1, 1, 1, 1))
    from_x0, variance = diffusion.q_posterior(one, zero, t)
    from_xt, _ = diffusion.q_posterior(zero, one, t)
    return from_x0.item(), from_xt.item(), variance.item()


def test_golden_posterior_weights():
    from_x0, from_xt, _ = posterior_weights(GaussianDiffusion(NoiseSchedule.linear()), 500)
    assert from_x0 == pytest.approx(3.070071e-3, rel=2e-7)
    assert from_xt == pytest.approx(0.994107, rel=1e-6)


@pytest.mark.parametrize("schedule", LONG)
@pytest.mark.parametrize("t", [2, 3, 17, 500, 999, 1000])
def test_the_posterior_by_precisions(schedule, t):
    # Bayes: q(x_{t−1} | x_0) q(x_t | x_{t−1}) as a function of x_{t−1} is a Gaussian whose
    # precision is the sum of theirs.
    alpha, beta = schedule.alpha[t], schedule.beta[t]
    before = schedule.alpha_bar[t - 1]
    precision = alpha / beta + 1 / (1 - before)
    expected = (
        np.sqrt(before) / (1 - before) / precision,
        np.sqrt(alpha) / beta / precision,
        1 / precision,
    )
    np.testing.assert_allclose(
        posterior_weights(GaussianDiffusion(schedule), t), expected, rtol=1e-9
    )


@given(CHAINS, st.data())
def test_the_posterior_by_integration(schedule, data):
    t = data.draw(st.integers(2, schedule.T))
    x0, xt = data.draw(st.floats(-1, 1)), data.draw(st.floats(-2, 2))
    mean, variance = GaussianDiffusion(schedule).q_posterior(
        np.full((1, 1, 1, 1), x0), np.full((1, 1, 1, 1), xt), t
    )
    std = np.sqrt(variance.item())
    grid = np.linspace(mean.item() - 12 * std, mean.item() + 12 * std, 4001)
    log_prior = -((grid - np.sqrt(schedule.alpha_bar[t - 1]) * x0) ** 2) / 2
    log_step = -((xt - np.sqrt(1 - schedule.beta[t]) * grid) ** 2) / 2
    log_density = log_prior / (1 - schedule.alpha_bar[t - 1]) + log_step / schedule.beta[t]
    weight = np.exp(log_density - log_density.max())
    weight /= weight.sum()
    found_mean = weight @ grid
    assert found_mean == pytest.approx(mean.item(), rel=1e-9, abs=1e-8 * std)
    assert weight @ (grid - found_mean) ** 2 == pytest.approx(variance.item(), rel=1e-7)


@given(CHAINS, st.data())
def test_marginal_moments_follow_from_the_posterior(schedule, data):
    # x_{t−1} = c₀ x_0 + c_t x_t + √β̃ z must have the moments of q(x_{t−1} | x_0).
    t = data.draw(st.integers(1, schedule.T))
    from_x0, from_xt, variance = posterior_weights(GaussianDiffusion(schedule), t)
    mean = from_x0 + from_xt * np.sqrt(schedule.alpha_bar[t])
    assert mean == pytest.approx(np.sqrt(schedule.alpha_bar[t - 1]), rel=1e-12)
    spread = variance + from_xt**2 * (1 - schedule.alpha_bar[t])
    assert spread == pytest.approx(1 - schedule.alpha_bar[t - 1], rel=1e-10, abs=1e-15)


def test_at_one_the_posterior_is_the_clean_image_itself():
    for schedule in LONG:
        assert posterior_weights(GaussianDiffusion(schedule), 1) == (1.0, 0.0, 0.0)


@given(CHAINS, SEEDS)
def test_the_posterior_mean_through_the_noise(schedule, seed):
    # Eq. 11: μ̃ = (x_t − β_t/√(1 − ᾱ_t) ε)/√α_t
    diffusion = GaussianDiffusion(schedule)
    x0, eps = images(seed)
    t = np.random.default_rng(seed).integers(1, schedule.T + 1, 3)
    xt = diffusion.q_sample(x0, t, eps)
    mean, _ = diffusion.q_posterior(x0, xt, t)
    column = (3, 1, 1, 1)
    weight = (schedule.beta[t] / np.sqrt(1 - schedule.alpha_bar[t])).reshape(column)
    expected = (xt - weight * eps) / np.sqrt(schedule.alpha[t]).reshape(column)
    np.testing.assert_allclose(mean, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("predict", PREDICTIONS)
@given(schedule=CHAINS, seed=SEEDS)
def test_the_true_output_gives_back_the_image_and_the_noise(predict, schedule, seed):
    diffusion = GaussianDiffusion(schedule, predict)
    x0, eps = images(seed)
    t = np.random.default_rng(seed).integers(1, schedule.T + 1, 3)
    xt = diffusion.q_sample(x0, t, eps)
    x0_hat = diffusion.predict_x0(xt, t, diffusion.target(x0, eps, t))
    np.testing.assert_allclose(x0_hat, x0, rtol=0, atol=1e-8)
    np.testing.assert_allclose(diffusion.predict_eps(xt, t, x0), eps, rtol=0, atol=1e-10)


@given(CHAINS, SEEDS)
def test_velocity_is_the_derivative_along_the_angle(schedule, seed):
    # With √ᾱ = cos φ and √(1 − ᾱ) = sin φ, x_φ = cos φ x_0 + sin φ ε and v = dx_φ/dφ.
    diffusion = GaussianDiffusion(schedule, "v")
    x0, eps = images(seed)
    phi, h = np.arccos(np.sqrt(schedule.alpha_bar[1])), 1e-5
    ahead = np.cos(phi + h) * x0 + np.sin(phi + h) * eps
    behind = np.cos(phi - h) * x0 + np.sin(phi - h) * eps
    v = (ahead - behind) / (2 * h)
    np.testing.assert_allclose(diffusion.velocity(x0, 1, eps), v, rtol=0, atol=1e-8)


@pytest.mark.parametrize("variance", ["beta", "beta_tilde"])
def test_the_reverse_variances(variance):
    schedule = NoiseSchedule.linear()
    diffusion = GaussianDiffusion(schedule, variance=variance)
    x, _ = images(0)
    for t in (2, 3, 1000):
        reverse = diffusion.p_mean_variance(x, x, t)
        assert reverse.variance.shape == reverse.log_variance.shape == (3, 1, 1, 1)
        assert reverse.variance[0].item() == getattr(schedule, variance)[t]
        assert reverse.log_variance[0].item() == np.log(getattr(schedule, variance)[t])
    at_one = diffusion.p_mean_variance(x, x, 1)
    assert at_one.variance[0].item() == schedule.beta_tilde[2]
    assert at_one.log_variance[0].item() == np.log(schedule.beta_tilde[2])
    assert at_one.log_variance[0].item() == pytest.approx(np.log(5.453188e-5), rel=1e-7)


@pytest.mark.parametrize("variance", ["beta", "beta_tilde"])
def test_the_reverse_variance_of_a_chain_of_one_step(variance):
    diffusion = GaussianDiffusion(NoiseSchedule.from_beta([0.3]), variance=variance)
    x, _ = images(0)
    assert diffusion.p_mean_variance(x, x, 1).variance[0].item() == 0.3


@pytest.mark.parametrize("predict", PREDICTIONS)
def test_the_mean_is_made_from_the_clipped_image(predict):
    diffusion = GaussianDiffusion(NoiseSchedule.linear(50), predict)
    xt, output = (3 * x for x in images(5))
    raw = diffusion.predict_x0(xt, 30, output)
    assert np.abs(raw).max() > 1
    held = np.clip(raw, -1, 1)
    clipped = diffusion.p_mean_variance(output, xt, 30)
    np.testing.assert_array_equal(clipped.x0_hat, held)
    np.testing.assert_array_equal(clipped.mean, diffusion.q_posterior(held, xt, 30)[0])
    free = diffusion.p_mean_variance(output, xt, 30, clip=False)
    np.testing.assert_array_equal(free.x0_hat, raw)
    np.testing.assert_array_equal(free.mean, diffusion.q_posterior(raw, xt, 30)[0])


def test_time_zero_is_the_clean_image():
    x0, eps = images(1)
    diffusion = GaussianDiffusion(NoiseSchedule.cosine(10))
    np.testing.assert_array_equal(diffusion.q_sample(x0, 0, eps), x0)


@pytest.mark.parametrize("predict", PREDICTIONS)
@given(seed=SEEDS)
def test_the_gradient_of_the_loss_by_complex_step(predict, seed):
    diffusion = GaussianDiffusion(NoiseSchedule.cosine(10), predict)
    output, x0, eps, direction = images(seed, count=4)
    t = np.random.default_rng(seed).integers(1, 11, 3)
    xt = diffusion.q_sample(x0, t, eps)
    _, doutput = diffusion.loss(output, x0, xt, eps, t)
    assert doutput.shape == output.shape
    value, _ = diffusion.loss(output + 1e-30j * direction, x0, xt, eps, t)
    assert (doutput * direction).sum() == pytest.approx(value.imag / 1e-30, rel=1e-11, abs=1e-14)


@pytest.mark.parametrize("predict", PREDICTIONS)
def test_the_loss_is_the_mean_square_error_of_the_prediction(predict):
    diffusion = GaussianDiffusion(NoiseSchedule.cosine(10), predict)
    output, x0, eps = images(9, count=3)
    t = np.array([1, 5, 9])
    xt = diffusion.q_sample(x0, t, eps)
    a = np.sqrt(diffusion.schedule.alpha_bar[t])[:, None, None, None]
    v, score = (a * xt - x0) / np.sqrt(1 - a * a), (a * x0 - xt) / (1 - a * a)
    target = {"eps": eps, "x0": x0, "v": v, "score": score}[predict]
    squares = (output - target) ** 2 * (1 - a * a if predict == "score" else 1.0)
    value, _ = diffusion.loss(output, x0, xt, eps, t)
    assert value.shape == ()
    assert value == pytest.approx(squares.sum() / squares.size, rel=1e-11)
    per_image = diffusion.image_losses(output, x0, xt, eps, t)[0]
    np.testing.assert_allclose(per_image, squares.reshape(3, -1).mean(axis=1), rtol=1e-11)
    right, gradient = diffusion.loss(target, x0, xt, eps, t)
    assert right == pytest.approx(0, abs=1e-20)
    assert np.abs(gradient).max() < 1e-10
