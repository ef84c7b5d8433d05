"""q(x_{t−1} | x_t, x_0) by least squares on chains that were walked forward."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from montecarlo import consistent, generator, mutated, regression_test

from tinyddpm.diffusion import gaussian
from tinyddpm.diffusion import schedule as schedules

PIXELS = (1, 100, 200, 1)


def posterior_by_least_squares(diffusion, t, *parameters):
    """Null: x_{t−1} = c₀ x_0 + c_t x_t + 𝒩(0, β̃_t), with c₀, c_t and β̃_t as q_posterior says."""
    draw = generator("posterior", t, *parameters)
    x0 = x = draw.standard_normal(PIXELS)
    for s in range(1, t + 1):
        before, x = x, diffusion.q_step(x, s, draw.standard_normal(PIXELS))
    one, zero = np.ones((1, 1, 1, 1)), np.zeros((1, 1, 1, 1))
    from_x0, variance = diffusion.q_posterior(one, zero, t)
    from_xt, _ = diffusion.q_posterior(zero, one, t)
    weights = [from_x0.item(), from_xt.item()]
    return regression_test(before, [x0, x], weights, variance.item())


@given(
    st.lists(st.floats(1e-2, 0.7), min_size=2, max_size=10), st.data(), st.integers(0, 2**32 - 1)
)
def test_the_posterior_is_the_regression_of_the_step_before(beta, data, seed):
    t = data.draw(st.integers(2, len(beta)))
    diffusion = gaussian.GaussianDiffusion(schedules.NoiseSchedule.from_beta(beta))
    assert consistent(*posterior_by_least_squares(diffusion, t, beta, seed))


@pytest.mark.parametrize(
    ("module", "right", "wrong"),
    [
        (gaussian, "    return from_x0, from_xt\n", "    return from_xt, from_x0\n"),
        (gaussian, "np.sqrt(schedule.alpha_bar[:-1])", "np.sqrt(schedule.alpha_bar[1:])"),
        (gaussian, "schedule.alpha[1:]) * noise_before", "schedule.alpha[1:]) * noise"),
        (gaussian, "np.sqrt(schedule.alpha[1:])", "np.sqrt(schedule.alpha[:-1])"),
        (gaussian, "mean = from_x0 +", "mean = -from_x0 +"),
        (gaussian, "per_image(self.schedule.beta_tilde", "per_image(self.schedule.beta"),
        (
            schedules,
            'self._freeze("beta_tilde", beta_tilde)',
            'self._freeze("beta_tilde", np.roll(beta_tilde, -1))',
        ),
        (schedules, "one_minus_alpha_bar[:-1] / one", "one_minus_alpha_bar[1:] / one"),
    ],
)
def test_a_wrong_posterior_is_rejected(module, right, wrong):
    wrongly = mutated(module, right, wrong)
    schedule_class = getattr(wrongly, "NoiseSchedule", schedules.NoiseSchedule)
    diffusion_class = getattr(wrongly, "GaussianDiffusion", gaussian.GaussianDiffusion)
    diffusion = diffusion_class(schedule_class.from_beta([0.05, 0.1, 0.2, 0.35]))
    assert not consistent(*posterior_by_least_squares(diffusion, 3, "mutant"))
