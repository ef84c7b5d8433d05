"""Our chain against diffusers' schedulers with the same β: noising, each step back, shorter chains.

Their tables are put into float64, for in float32 1 − ᾱ_t has three digits left at the first t.
"""

import itertools

import numpy as np
import pytest

from tinyddpm import GaussianDiffusion, NoiseSchedule

torch = pytest.importorskip("torch")
diffusers = pytest.importorskip("diffusers")

pytestmark = [
    pytest.mark.peer,
    pytest.mark.filterwarnings("ignore"),  # diffusers' imports and deprecations are not ours
]

T = 100
SHAPE = (2, 4, 4, 3)
SCHEDULES = {"linear": NoiseSchedule.linear(T), "squaredcos_cap_v2": NoiseSchedule.cosine(T)}
PREDICTIONS = {"eps": "epsilon", "x0": "sample", "v": "v_prediction"}
VARIANCES = {"beta": "fixed_large", "beta_tilde": "fixed_small", "learned": "learned_range"}


def scheduler(kind, schedule, **options):
    theirs = getattr(diffusers, kind)(num_train_timesteps=T, **options)
    theirs.alphas_cumprod = torch.tensor(schedule.alpha_bar[1:])
    theirs.one = theirs.final_alpha_cumprod = torch.tensor(1.0, dtype=torch.float64)
    return theirs


def images(seed, channels=3):
    return np.random.default_rng(seed).standard_normal((*SHAPE[:-1], channels))


def tensor(x):
    """Channels first: there they are split."""
    return torch.tensor(x).permute(0, 3, 1, 2)


def array(x):
    return x.permute(0, 2, 3, 1).numpy()


def noise_is(monkeypatch, kind, value):
    module = getattr(diffusers.schedulers, f"scheduling_{kind}")

    def constant(shape, **_):
        return torch.full(tuple(shape), value, dtype=torch.float64)

    monkeypatch.setattr(module, "randn_tensor", constant)


@pytest.mark.parametrize("name", SCHEDULES)
def test_beta(name):
    ends = {"beta_start": 1e-4 * 1000 / T, "beta_end": 0.02 * 1000 / T}
    theirs = diffusers.DDPMScheduler(num_train_timesteps=T, beta_schedule=name, **ends)
    np.testing.assert_allclose(SCHEDULES[name].beta[1:], theirs.betas.numpy(), rtol=2e-6)


@pytest.mark.parametrize("t", [1, 2, 50, T])
def test_noise_is_added_alike(t):
    schedule = SCHEDULES["linear"]
    theirs, ours = scheduler("DDPMScheduler", schedule), GaussianDiffusion(schedule)
    x0, eps = images(0), images(1)
    index = torch.full((len(x0),), t - 1)
    expected = theirs.add_noise(tensor(x0), tensor(eps), index)
    np.testing.assert_allclose(ours.q_sample(x0, t, eps), array(expected), rtol=1e-12)
    expected = theirs.get_velocity(tensor(x0), tensor(eps), index)
    np.testing.assert_allclose(ours.velocity(x0, t, eps), array(expected), rtol=1e-12)


@pytest.mark.parametrize("clip", [True, False])
@pytest.mark.parametrize("steps", [T, 7], ids=["all steps", "seven steps"])
@pytest.mark.parametrize(
    ("name", "predict", "variance"), list(itertools.product(SCHEDULES, PREDICTIONS, VARIANCES))
)
def test_a_step_back(monkeypatch, name, predict, variance, steps, clip):
    schedule = SCHEDULES[name]
    theirs = scheduler(
        "DDPMScheduler",
        schedule,
        prediction_type=PREDICTIONS[predict],
        variance_type=VARIANCES[variance],
        clip_sample=clip,
        timestep_spacing="linspace",
    )
    theirs.set_timesteps(steps)
    ours = GaussianDiffusion(schedule, predict, variance).respace(steps)
    assert (ours.timesteps[:0:-1] - 1).tolist() == theirs.timesteps.tolist()
    xt, output = images(2), images(3, 6 if variance == "learned" else 3)
    for t in (1, 2, 5, steps):
        reverse = ours.p_mean_variance(output, xt, t, clip=clip)
        found = []
        for value in (0.0, 1.0):
            noise_is(monkeypatch, "ddpm", value)
            step = theirs.step(tensor(output), theirs.timesteps[steps - t], tensor(xt))
            found.append(array(step.prev_sample))
        foreseen = array(step.pred_original_sample)
        np.testing.assert_allclose(reverse.x0_hat, foreseen, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(reverse.mean, found[0], rtol=1e-9, atol=1e-12)
        if t > 1:  # where there is noise
            std = np.broadcast_to(np.sqrt(reverse.variance), SHAPE)
            np.testing.assert_allclose(std, found[1] - found[0], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0])
@pytest.mark.parametrize(("name", "predict"), list(itertools.product(SCHEDULES, PREDICTIONS)))
def test_a_step_of_ddim(monkeypatch, name, predict, eta):
    schedule = SCHEDULES[name]
    theirs = scheduler(
        "DDIMScheduler", schedule, prediction_type=PREDICTIONS[predict], clip_sample=True
    )
    theirs.set_timesteps(T)
    ours = GaussianDiffusion(schedule, predict)
    xt, output = images(4), images(5)
    for t in (1, 2, 50, T):
        mean, variance, x0_hat = ours.ddim_mean_variance(output, xt, t, eta=eta)
        found = []
        for value in (0.0, 1.0):
            noise_is(monkeypatch, "ddim", value)
            options = {"eta": eta, "use_clipped_model_output": True}
            step = theirs.step(tensor(output), t - 1, tensor(xt), **options)
            found.append(array(step.prev_sample))
        np.testing.assert_allclose(x0_hat, array(step.pred_original_sample), rtol=1e-9)
        np.testing.assert_allclose(mean, found[0], rtol=1e-9, atol=1e-12)
        std = np.broadcast_to(np.sqrt(variance), SHAPE)
        np.testing.assert_allclose(std, found[1] - found[0], rtol=1e-7, atol=1e-9)
