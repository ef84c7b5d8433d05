"""Algorithm 2 with a model that is exactly right, and what it promises to the bit."""

import numpy as np
import pytest
from gaussian_data import GaussianData
from hypothesis import given
from hypothesis import strategies as st
from montecarlo import consistent, gaussian_test, mutated, seed_of

from tinyddpm import errors
from tinyddpm.diffusion import gaussian, sampling
from tinyddpm.diffusion.schedule import NoiseSchedule

PIXELS = (2, 100, 100, 1)
SMALL = (4, 3, 2, 2)
PREDICTIONS = st.sampled_from(["eps", "x0", "v", "score"])
VARIANCES = st.sampled_from(["beta", "beta_tilde"])


def half(x, _t):
    """Some model, nonlinear, that treats each image by itself."""
    return np.tanh(0.5 * x)


def samples_against_moments(sample, diffusion, data, seed):
    """Null: the pixels sampled are independent, 𝒩 with the moments of the affine recursion."""
    x = sample(diffusion, data, PIXELS, seed=seed, clip=False, dtype=np.float64)
    return gaussian_test(x, *data.sampled_moments(diffusion.schedule, diffusion.variance))


@given(
    beta=st.lists(st.floats(1e-2, 0.9), min_size=1, max_size=10),
    mean=st.floats(-0.8, 0.8),
    std=st.floats(0.1, 2.0),
    predict=PREDICTIONS,
    variance=VARIANCES,
)
def test_samples_have_the_moments_of_the_exact_model(beta, mean, std, predict, variance):
    schedule = NoiseSchedule.from_beta(beta)
    diffusion = gaussian.GaussianDiffusion(schedule, predict, variance)
    data = GaussianData(mean, std**2, schedule, predict)
    seed = seed_of("sampling", beta, mean, std, predict, variance)
    assert consistent(*samples_against_moments(sampling.sample, diffusion, data, seed))


SCHEDULE = NoiseSchedule.from_beta([0.1, 0.2, 0.3, 0.4, 0.5, 0.6])


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("noise(t)) if t > 1 else mean", "noise(t)) if t > 0 else mean"),
        ("noise(t)) if t > 1 else mean", "noise(t)) if t > 2 else mean"),
        ("diffusion.timesteps[t])", "diffusion.timesteps[t - 1])"),
        ("(noise(t)) if", "(noise(0)) if"),
        (".sqrt(variance)", ".positive(variance)"),
        ("step=step, samples", "step=0 * step, samples"),
        ("mean + xp.sqrt", "x + xp.sqrt"),
        ("clip=clip)\n            x =", "clip=True)\n            x ="),
    ],
)
@pytest.mark.parametrize("variance", ["beta", "beta_tilde"])
def test_a_wrong_sampler_is_rejected(right, wrong, variance):
    diffusion = gaussian.GaussianDiffusion(SCHEDULE, "eps", variance)
    data = GaussianData(0.4, 0.5, SCHEDULE)
    sample = mutated(sampling, right, wrong).sample
    assert not consistent(*samples_against_moments(sample, diffusion, data, 0))
    assert consistent(*samples_against_moments(sampling.sample, diffusion, data, 0))


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ('schedule.beta if variance == "beta" else', 'schedule.beta if variance != "beta" else'),
        ("    return table\n", "    return np.roll(table, 1)\n"),
        ("    return from_x0, from_xt\n", "    return from_xt, from_x0\n"),
        ("(xt - noise * output) / signal", "(xt + noise * output) / signal"),
        ("x0_hat = (xt - noise * output) / signal", "x0_hat = xt - noise * output"),
    ],
)
@pytest.mark.parametrize("variance", ["beta", "beta_tilde"])
def test_a_wrong_reverse_step_is_rejected(right, wrong, variance):
    diffusion = mutated(gaussian, right, wrong).GaussianDiffusion(SCHEDULE, "eps", variance)
    data = GaussianData(0.4, 0.5, SCHEDULE)
    assert not consistent(*samples_against_moments(sampling.sample, diffusion, data, 0))


@pytest.mark.parametrize("variance", ["beta", "beta_tilde"])
def test_a_respaced_chain_with_the_exact_model(variance):
    # For data of variance below 1, σ² = β spreads the samples too far and β̃ too little, by amounts
    # that the recursion gives.
    original = NoiseSchedule.cosine()
    diffusion = gaussian.GaussianDiffusion(original, variance=variance).respace(25)
    data = GaussianData(0.3, 0.25, original)
    _, spread = data.sampled_moments(diffusion.schedule, variance)
    assert spread > 0.26 if variance == "beta" else spread < 0.24
    assert consistent(*samples_against_moments(sampling.sample, diffusion, data, 1))


def test_a_respaced_chain_that_gives_the_model_its_own_time_is_rejected():
    original = NoiseSchedule.cosine()
    diffusion = gaussian.GaussianDiffusion(original).respace(25)
    data = GaussianData(0.3, 0.25, original)
    own_time = mutated(sampling, "diffusion.timesteps[t])", "t)").sample
    assert not consistent(*samples_against_moments(own_time, diffusion, data, 1))


@pytest.mark.parametrize("seed", [0, 1])
def test_the_last_step_adds_no_noise(seed):
    diffusion = gaussian.GaussianDiffusion(SCHEDULE)
    *_, before, last = diffusion.sample_steps(half, SMALL, seed=seed)
    assert (before.t, last.t) == (2, 1)
    alone = diffusion.p_mean_variance(half(before.x, 1), before.x, 1)
    np.testing.assert_array_equal(last.x, alone.mean)
    np.testing.assert_array_equal(last.x, last.x0_hat)


def test_two_seeds_that_share_x1_end_in_the_same_image(monkeypatch):
    # Only the noise of t = 1 is left to the seed: there is none.
    diffusion = gaussian.GaussianDiffusion(SCHEDULE)

    def ends(module):
        drawn = module.normal

        def shared_until_1(seed, stream, *, step, **rest):
            return drawn(seed if step == 1 else 0, stream, step=step, **rest)

        monkeypatch.setattr(module, "normal", shared_until_1)
        return [module.sample(diffusion, half, SMALL, seed=seed) for seed in (3, 4)]

    first, second = ends(sampling)
    np.testing.assert_array_equal(first, second)
    first, second = ends(mutated(sampling, "if t > 1 else mean", "if t > 0 else mean"))
    assert not np.array_equal(first, second)


@pytest.mark.parametrize("cut", [1, 3])
def test_a_batch_cut_in_two_gives_the_same_images_to_the_bit(cut):
    diffusion = gaussian.GaussianDiffusion(SCHEDULE)
    whole = diffusion.sample(half, SMALL, seed=5)
    parts = [
        diffusion.sample(half, (cut, *SMALL[1:]), seed=5),
        diffusion.sample(half, (SMALL[0] - cut, *SMALL[1:]), seed=5, first_sample=cut),
    ]
    np.testing.assert_array_equal(np.concatenate(parts), whole)
    assert len({image.tobytes() for image in whole}) == SMALL[0]


def test_seed_and_stream_decide_the_images():
    diffusion = gaussian.GaussianDiffusion(SCHEDULE)
    once = diffusion.sample(half, SMALL, seed=5)
    np.testing.assert_array_equal(once, diffusion.sample(half, SMALL, seed=5))
    assert not np.array_equal(once, diffusion.sample(half, SMALL, seed=6))
    assert not np.array_equal(once, diffusion.sample(half, SMALL, seed=5, stream="preview"))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_dtype_is_the_one_asked_for_throughout(dtype):
    diffusion = gaussian.GaussianDiffusion(SCHEDULE)
    seen = []

    def model(xt, t):
        seen.append((xt.dtype, t.shape, t.dtype.kind))
        return half(xt, t)

    x = diffusion.sample(model, SMALL, dtype=dtype)
    assert x.dtype == dtype
    assert x.shape == SMALL
    assert set(seen) == {(np.dtype(dtype), (4,), "i")}


def test_the_model_is_called_once_a_step_with_the_times_of_the_paper():
    diffusion = gaussian.GaussianDiffusion(SCHEDULE)
    times, steps = [], []

    def model(xt, t):
        times.append(t.tolist())
        return half(xt, t)

    diffusion.sample(model, SMALL, progress=steps.append)
    assert times == [[t] * 4 for t in (6, 5, 4, 3, 2, 1)]
    assert steps == [6, 5, 4, 3, 2, 1]


def test_the_steps_end_in_the_sample():
    diffusion = gaussian.GaussianDiffusion(SCHEDULE)
    steps = list(diffusion.sample_steps(half, SMALL, seed=7))
    assert [step.t for step in steps] == [6, 5, 4, 3, 2, 1]
    assert all(np.abs(step.x0_hat).max() <= 1 for step in steps)
    np.testing.assert_array_equal(steps[-1].x, diffusion.sample(half, SMALL, seed=7))


def test_unclipped_samples_leave_the_range():
    diffusion = gaussian.GaussianDiffusion(SCHEDULE)
    assert np.abs(diffusion.sample(half, SMALL)).max() <= 1
    assert np.abs(diffusion.sample(half, SMALL, clip=False)).max() > 1


def test_a_model_of_another_shape_is_refused():
    diffusion = gaussian.GaussianDiffusion(SCHEDULE)
    with pytest.raises(errors.UsageError, match="one shape"):
        diffusion.sample(lambda xt, _t: xt[..., :1], SMALL)
