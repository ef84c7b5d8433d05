"""From images to noise and back: the differential equation of DDIM, solved where it can be."""

import numpy as np
import pytest
from gaussian_data import GaussianData
from montecarlo import mutated

from tinyddpm import errors
from tinyddpm.diffusion import ddim
from tinyddpm.diffusion.gaussian import GaussianDiffusion
from tinyddpm.diffusion.schedule import NoiseSchedule

MEAN, VARIANCE = 0.3, 0.25
X0 = np.linspace(-1, 1, 24).reshape(2, 3, 2, 2)
STEPS = (40, 80, 160, 320, 640)


def some_model(x, t):
    return np.tanh(0.5 * x + 0.1 * t.reshape(-1, 1, 1, 1))


def chain(T, predict="eps"):
    schedule = NoiseSchedule.linear(T)
    return GaussianDiffusion(schedule, predict), GaussianData(MEAN, VARIANCE, schedule, predict)


def flow(schedule, x0):
    """Where the equation takes x_0: the map of 𝒩(m, s²) to 𝒩(√ᾱ_T m, ᾱ_T s² + 1 − ᾱ_T)."""
    end = schedule.alpha_bar[-1]
    stretch = np.sqrt((end * VARIANCE + 1 - end) / VARIANCE)
    return np.sqrt(end) * MEAN + stretch * (x0 - MEAN)


def back(diffusion, model, x_T):
    *_, last = diffusion.ddim_steps_from(model, x_T, clip=False)
    return last.x


def first_order(errors_):
    """Whether each error, at twice the steps of the one before, is about half of it."""
    ratios = np.array(errors_[:-1]) / errors_[1:]
    return np.all((ratios > 1.6) & (ratios < 2.4))


@pytest.mark.parametrize("predict", ["eps", "x0", "v", "score"])
def test_the_way_there_and_the_way_back_tend_to_the_exact_flow(predict):
    there, here, round_trip = [], [], []
    for T in STEPS:
        diffusion, data = chain(T, predict)
        exact = flow(diffusion.schedule, X0)
        noise = diffusion.ddim_invert(data, X0)
        there.append(np.abs(noise - exact).max())
        here.append(np.abs(back(diffusion, data, exact) - X0).max())
        round_trip.append(np.abs(back(diffusion, data, noise) - X0).max())
    for error in (there, here, round_trip):
        assert first_order(error), error
        assert error[-1] < 0.02


def test_the_round_trip_of_a_respaced_chain_closes_with_its_steps():
    original = GaussianDiffusion(NoiseSchedule.cosine())
    data = GaussianData(MEAN, VARIANCE, original.schedule)
    missed = []
    for steps in (10, 50, 250, 1000):
        short = original.respace(steps)
        missed.append(np.abs(back(short, data, short.ddim_invert(data, X0)) - X0).max())
    assert missed == sorted(missed, reverse=True)
    assert missed[0] > 20 * missed[-1]
    assert missed[-1] < 0.02


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("q_sample(x0_hat, t, eps_hat)", "q_sample(x0_hat, t, -eps_hat)"),
        ("q_sample(x0_hat, t, eps_hat)", "q_sample(x0_hat, here, eps_hat)"),
        ("x0_hat = foreseen if t > 1 else x0", "x0_hat = x0"),
        ("* x0_hat + per_image(_noise_kept", "* x0_hat - per_image(_noise_kept"),
    ],
)
def test_a_wrong_step_does_not_lead_back(right, wrong):
    module = mutated(ddim, right, wrong)
    diffusion, data = chain(STEPS[-1])
    noise = module.ddim_invert(diffusion, data, X0)
    *_, last = module.ddim_steps_from(diffusion, data, noise, clip=False)
    assert np.abs(last.x - X0).max() > 0.05


def test_each_step_is_an_euler_step():
    # Eq. 13 the other way: x_t/√ᾱ_t = x_{t−1}/√ᾱ_{t−1} + (σ̄_t − σ̄_{t−1}) ε(x_{t−1}, t − 1).
    schedule = NoiseSchedule.from_beta([0.1, 0.2, 0.3, 0.4])
    root, sigma_bar = np.sqrt(schedule.alpha_bar), np.sqrt(1 / schedule.alpha_bar - 1)
    x, times = X0, []
    for step in GaussianDiffusion(schedule).ddim_invert_steps(some_model, X0):
        t = step.t
        eps = some_model(x, np.full(len(x), max(t - 1, 1)))
        before = x / root[t - 1]
        np.testing.assert_allclose(step.x0_hat, before - sigma_bar[t - 1] * eps, atol=1e-12)
        x = root[t] * (before + (sigma_bar[t] - sigma_bar[t - 1]) * eps)
        np.testing.assert_allclose(step.x, x, atol=1e-12)
        times.append(t)
    assert times == [1, 2, 3, 4]


def test_times_and_progress_of_a_respaced_chain():
    seen, progress = [], []

    def model(xt, t):
        seen.append(t.tolist())
        return some_model(xt, t)

    short = GaussianDiffusion(NoiseSchedule.linear()).respace(4)
    found = short.ddim_invert(model, X0.astype(np.float32), progress=progress.append)
    assert found.shape == X0.shape
    assert seen == [[t] * 2 for t in (1, 1, 334, 667)]
    assert progress == [1, 2, 3, 4]


def test_bytes_are_refused():
    diffusion, data = chain(50)
    with pytest.raises(errors.UsageError, match="floating-point"):
        diffusion.ddim_invert(data, np.zeros((1, 2, 2, 1), np.uint8))
