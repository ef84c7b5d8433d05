"""The forward chain walked step by step, against what is claimed of it in closed form."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from montecarlo import consistent, gaussian_test, generator, mutated, regression_test, seed_of

from tinyddpm import rng
from tinyddpm.diffusion import gaussian
from tinyddpm.diffusion import schedule as schedules

PIXELS = (1, 100, 200, 1)
BETAS = st.lists(st.floats(1e-3, 0.7), min_size=3, max_size=10)
SEEDS = st.integers(0, 2**32 - 1)
EXAMPLE = [0.02, 0.05, 0.1, 0.2, 0.3, 0.25]  # for the mutants


def walk(diffusion, x0, noise):
    """Return x_0 … x_T, with ``noise(t)`` added at t."""
    path = [x0]
    for t in range(1, diffusion.schedule.T + 1):
        path.append(diffusion.q_step(path[-1], t, noise(t)))
    return path


def draws(*parameters):
    rng_of_test = generator(*parameters)
    return lambda _t: rng_of_test.standard_normal(PIXELS)


def chain_against_closed_form(diffusion, level, seed):
    """Null: x_t of the chain begun at a constant x_0 is what q_sample says, at each t.

    q_sample of (x_0, 0) is its mean, and the square of q_sample of (0, 1) its variance.
    """
    one, zero = np.ones((1, 1, 1, 1)), np.zeros((1, 1, 1, 1))
    path = walk(diffusion, np.full(PIXELS, level), draws("chain", level, seed))
    log_p = []
    for t in range(1, diffusion.schedule.T + 1):
        mean = diffusion.q_sample(level * one, t, zero).item()
        std = diffusion.q_sample(zero, t, one).item()
        log_p += gaussian_test(path[t], mean, std**2)
    return log_p


@given(BETAS, st.floats(-1, 1), SEEDS)
def test_the_steps_make_the_closed_form(beta, level, seed):
    diffusion = gaussian.GaussianDiffusion(schedules.NoiseSchedule.from_beta(beta))
    assert consistent(*chain_against_closed_form(diffusion, level, seed))


@pytest.mark.parametrize(
    ("module", "right", "wrong"),
    [
        (gaussian, "signal * x_prev + noise * eps", "x_prev + noise * eps"),
        (
            gaussian,
            "self._signal = np.sqrt(schedule.alpha_bar)",
            "self._signal = schedule.alpha_bar",
        ),
        (gaussian, "per_image(np.sqrt(self.schedule.beta)", "per_image((self.schedule.beta)"),
        (
            gaussian,
            "xt: Array = signal * x0 + noise * eps",
            "xt: Array = signal * x0 + noise**2 * eps",
        ),
        (schedules, "np.cumprod(1.0 - beta", "np.cumprod(1.0 - np.roll(beta, 1)"),
        (schedules, "np.cumprod(1.0 - beta, dtype=np.float64)", "1.0 - np.cumsum(beta)"),
        (schedules, "beta * np.roll(alpha_bar, 1)", "beta * alpha_bar"),
    ],
)
def test_a_wrong_chain_or_closed_form_is_rejected(module, right, wrong):
    wrongly = mutated(module, right, wrong)
    schedule_class = getattr(wrongly, "NoiseSchedule", schedules.NoiseSchedule)
    diffusion_class = getattr(wrongly, "GaussianDiffusion", gaussian.GaussianDiffusion)
    diffusion = diffusion_class(schedule_class.from_beta(EXAMPLE))
    assert not consistent(*chain_against_closed_form(diffusion, 0.7, 0))


def merged(diffusion, seed):
    """Null: the variances of independent Gaussians add, √(α_2 β_1) ε_1 + √β_2 ε_2 ~ 𝒩(0, 1 − ᾱ_2),
    as 1 − ᾱ_2 = α_2 β_1 + β_2.
    """
    path = walk(diffusion, np.zeros(PIXELS), draws("merge", seed))
    beta1, beta2 = diffusion.schedule.beta[1:3]
    return gaussian_test(path[2], 0.0, (1 - beta2) * beta1 + beta2)


@given(st.floats(1e-3, 0.9), st.floats(1e-3, 0.9), SEEDS)
def test_two_gaussians_merge_into_one(beta1, beta2, seed):
    schedule = schedules.NoiseSchedule.from_beta([beta1, beta2])
    assert schedule.one_minus_alpha_bar[2] == pytest.approx((1 - beta2) * beta1 + beta2, rel=1e-14)
    assert consistent(*merged(gaussian.GaussianDiffusion(schedule), seed))


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("per_image(np.sqrt(self.schedule.beta)", "per_image((self.schedule.beta)"),
        ("per_image(np.sqrt(self.schedule.alpha)", "per_image((self.schedule.alpha)"),
    ],
)
def test_a_wrong_merge_is_rejected(right, wrong):
    schedule = schedules.NoiseSchedule.from_beta([0.3, 0.2])
    diffusion = mutated(gaussian, right, wrong).GaussianDiffusion(schedule)
    assert not consistent(*merged(diffusion, 0))


def markov(generator_module, beta, t, seed):
    """Null: given x_t, x_{t+1} is √α_{t+1} x_t + 𝒩(0, β_{t+1}), and x_{t−1} adds nothing."""
    diffusion = gaussian.GaussianDiffusion(schedules.NoiseSchedule.from_beta(beta))

    def noise(step):
        return generator_module.normal(
            seed, "noise", step=step, samples=np.arange(1), shape=PIXELS[1:], dtype=np.float64
        )

    path = walk(diffusion, noise(0), noise)
    schedule = diffusion.schedule
    given_both = regression_test(
        path[t + 1],
        [path[t], path[t - 1]],
        [np.sqrt(schedule.alpha[t + 1]), 0.0],
        schedule.beta[t + 1],
    )
    # The same statistic without x_t: now x_{t−1} tells of x_{t+1}, whose variance is 1.
    given_past = regression_test(path[t + 1], [path[t - 1]], [0.0], 1.0)
    return given_both, given_past


@given(BETAS, st.data(), SEEDS)
def test_the_chain_is_markov(beta, data, seed):
    t = data.draw(st.integers(1, len(beta) - 1))
    given_both, given_past = markov(rng, beta, t, seed_of("markov", beta, t, seed))
    assert consistent(*given_both)
    assert not consistent(*given_past)


def test_a_chain_with_the_same_noise_at_each_step_is_rejected():
    same = mutated(rng, "counter[..., 2] = step", "counter[..., 2] = 0 * step")
    given_both, _ = markov(same, EXAMPLE, 3, 0)
    assert not consistent(*given_both)


@given(st.sampled_from(["linear", "cosine"]), st.floats(-1, 1), SEEDS)
def test_the_end_of_the_chain_is_nearly_standard_normal(name, level, seed):
    # Null: x_T ~ 𝒩(√ᾱ_T x_0, 1 − ᾱ_T), with √ᾱ_T < 0.007 of the image left.
    schedule = getattr(schedules.NoiseSchedule, name)()
    assert np.sqrt(schedule.alpha_bar[-1]) < 7e-3
    eps = generator("end", name, level, seed).standard_normal(PIXELS)
    diffusion = gaussian.GaussianDiffusion(schedule)
    x = diffusion.q_sample(np.full(PIXELS, level), schedule.T, eps)
    mean = np.sqrt(np.prod(1 - schedule.beta)) * level
    assert consistent(*gaussian_test(x, mean, 1 - np.prod(1 - schedule.beta)))


def test_a_chain_whose_betas_are_not_scaled_with_its_length_is_rejected():
    unscaled = mutated(schedules, "scale = 1000.0 / T", "scale = 1.0")
    schedule = unscaled.NoiseSchedule.linear(100)
    eps = generator("unscaled").standard_normal(PIXELS)
    x = gaussian.GaussianDiffusion(schedule).q_sample(np.ones(PIXELS), 100, eps)
    assert not consistent(*gaussian_test(x, 0.0, 1.0))
    scaled = schedules.NoiseSchedule.linear(100)
    x = gaussian.GaussianDiffusion(scaled).q_sample(np.ones(PIXELS), 100, eps)
    assert consistent(*gaussian_test(x, 0.0, 1.0))
