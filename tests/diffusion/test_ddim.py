"""DDIM with a model that is exactly right, against eq. 12 in another form, and against its ends."""

import numpy as np
import pytest
from gaussian_data import GaussianData
from hypothesis import given
from hypothesis import strategies as st
from montecarlo import consistent, gaussian_test, mutated, seed_of

from tinyddpm import errors
from tinyddpm.diffusion import ddim
from tinyddpm.diffusion.gaussian import GaussianDiffusion
from tinyddpm.diffusion.schedule import NoiseSchedule

PIXELS = (2, 100, 100, 1)
SMALL = (4, 3, 2, 2)
BETAS = st.lists(st.floats(1e-2, 0.9), min_size=1, max_size=10)
ETAS = st.sampled_from([0.0, 0.3, 1.0])
PREDICTIONS = st.sampled_from(["eps", "x0", "v", "score"])
SCHEDULE = NoiseSchedule.from_beta([0.1, 0.2, 0.3, 0.4, 0.5, 0.6])


def some_model(x, t):
    """Nonlinear, different at each t, and treating each image by itself."""
    return np.tanh(0.5 * x + 0.1 * t.reshape(-1, 1, 1, 1)).astype(x.dtype)


def moments(data, schedule, eta):
    """The mean and the variance of what DDIM ends in: eq. 12 in terms of ε*, which is affine.

    x_{t−1} = √(ᾱ_{t−1}/ᾱ_t) (x_t − √(1 − ᾱ_t) ε*) + √(1 − ᾱ_{t−1} − σ_t²) ε* + σ_t z
    """
    mean, spread = 0.0, 1.0
    for t in range(schedule.T, 0, -1):
        before, now = schedule.alpha_bar[t - 1 : t + 1]
        sigma2 = eta**2 * (1 - before) / (1 - now) * (1 - now / before)
        slope = np.sqrt(1 - now) / (now * data.variance + 1 - now)
        kept = np.sqrt(max(1 - before - sigma2, 0.0)) - np.sqrt(before / now * (1 - now))
        a = np.sqrt(before / now) + kept * slope
        mean = a * mean - kept * slope * np.sqrt(now) * data.mean
        spread = a * a * spread + sigma2
    return mean, spread


def samples_against_moments(sample, diffusion, data, eta, seed):
    """Null: the pixels sampled are independent, 𝒩 with the moments of the affine recursion."""
    x = sample(diffusion, data, PIXELS, seed=seed, eta=eta, clip=False, dtype=np.float64)
    return gaussian_test(x, *moments(data, diffusion.schedule, eta))


@given(BETAS, st.floats(-0.8, 0.8), st.floats(0.1, 2.0), PREDICTIONS, ETAS)
def test_samples_have_the_moments_of_the_exact_model(beta, mean, std, predict, eta):
    schedule = NoiseSchedule.from_beta(beta)
    data = GaussianData(mean, std**2, schedule, predict)
    seed = seed_of("ddim", beta, mean, std, predict, eta)
    diffusion = GaussianDiffusion(schedule, predict)
    assert consistent(*samples_against_moments(ddim.ddim, diffusion, data, eta, seed))


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("* x0_hat + per_image(_noise_kept", "* x0_hat - per_image(_noise_kept"),
        ("schedule.alpha_bar), times - 1, xt)", "schedule.alpha_bar), times, xt)"),
        ("eta**2 * schedule.beta_tilde", "eta * schedule.beta_tilde"),
        ("eta**2 * schedule.beta_tilde", "eta**2 * schedule.beta"),
        ("1.0 - eta**2 + eta**2 *", "1.0 + eta**2 *"),
        ("np.sqrt(before *", "np.sqrt(now *"),
        ("xp.sqrt(variance)", "variance"),
        ("0.0 and t > 1:", "0.0 and t > 2:"),
        ("diffusion.timesteps[t])", "diffusion.timesteps[max(t - 1, 1)])"),
        ("step=t, samples", "step=0 * t, samples"),
        ("x, t, eta=eta, clip=clip)", "x, t, eta=eta)"),
    ],
)
def test_a_wrong_sampler_is_rejected(right, wrong):
    diffusion, data = GaussianDiffusion(SCHEDULE).respace(5), GaussianData(0.4, 0.5, SCHEDULE)
    sample = mutated(ddim, right, wrong).ddim
    assert not consistent(*samples_against_moments(sample, diffusion, data, 0.6, 0))
    assert consistent(*samples_against_moments(ddim.ddim, diffusion, data, 0.6, 0))


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_a_respaced_chain_with_the_exact_model(eta):
    original = NoiseSchedule.cosine()
    diffusion = GaussianDiffusion(original).respace(20)
    data = GaussianData(0.3, 0.25, original)
    assert consistent(*samples_against_moments(ddim.ddim, diffusion, data, eta, 1))
    own_time = mutated(ddim, "diffusion.timesteps[t])", "t)").ddim
    assert not consistent(*samples_against_moments(own_time, diffusion, data, eta, 1))


@given(BETAS, PREDICTIONS, st.booleans(), st.integers(0, 2**32 - 1), st.data())
def test_eta_1_is_ancestral_sampling_with_beta_tilde(beta, predict, clip, seed, data):
    steps = data.draw(st.integers(1, len(beta)))
    schedule = NoiseSchedule.from_beta(beta)
    diffusion = GaussianDiffusion(schedule, predict, "beta_tilde").respace(steps)
    arguments = {"seed": seed, "clip": clip, "dtype": np.float64}
    ancestral = diffusion.sample_steps(some_model, SMALL, **arguments)
    implicit = diffusion.ddim_steps(some_model, SMALL, eta=1.0, **arguments)
    for expected, found in zip(ancestral, implicit, strict=True):
        assert found.t == expected.t
        # Without clipping, ᾱ small makes x large.
        scale = max(1.0, np.abs(expected.x).max(), np.abs(expected.x0_hat).max())
        np.testing.assert_allclose(found.x, expected.x, rtol=0, atol=1e-10 * scale)
        np.testing.assert_allclose(found.x0_hat, expected.x0_hat, rtol=0, atol=1e-10 * scale)


@pytest.mark.parametrize("schedule", [NoiseSchedule.linear(), NoiseSchedule.cosine()])
def test_eta_1_is_ancestral_over_a_thousand_steps_of_float32(schedule):
    diffusion = GaussianDiffusion(schedule, variance="beta_tilde")
    found = diffusion.ddim(some_model, SMALL, eta=1.0, seed=3)
    np.testing.assert_allclose(found, diffusion.sample(some_model, SMALL, seed=3), atol=1e-4)


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("diffusion.predict_eps(xt, times, x0_hat)", "output"),
        ("0.0 and t > 1:", "0.0 and t > 2:"),
        ("* x0_hat + per_image", "* x0_hat - per_image"),
        ("np.sqrt(before *", "np.sqrt(now *"),
    ],
)
def test_the_equality_with_ancestral_sampling_sees_a_wrong_step(right, wrong):
    # The first: the clip of x̂_0 does not reach ε̂.
    diffusion = GaussianDiffusion(SCHEDULE, variance="beta_tilde")
    expected = diffusion.sample(some_model, SMALL, dtype=np.float64)
    found = mutated(ddim, right, wrong).ddim(
        diffusion, some_model, SMALL, eta=1.0, dtype=np.float64
    )
    assert np.abs(found - expected).max() > 1e-3


@given(BETAS, st.integers(0, 2**32 - 1), ETAS, PREDICTIONS)
def test_a_step_has_the_variance_that_the_marginals_leave(beta, seed, eta, predict):
    # Given x_0, the true ε and eq. 12: Var x_{t−1} = 1 − ᾱ_{t−1}, about √ᾱ_{t−1} x_0.
    diffusion = GaussianDiffusion(NoiseSchedule.from_beta(beta), predict)
    x0, eps = np.random.default_rng(seed).standard_normal((2, *SMALL))
    for t in range(1, len(beta) + 1):
        xt = diffusion.q_sample(x0, t, eps)
        output = diffusion.target(x0, eps, t)
        mean, variance, x0_hat = diffusion.ddim_mean_variance(output, xt, t, eta=eta, clip=False)
        alpha_bar = diffusion.schedule.alpha_bar[t - 1]
        np.testing.assert_allclose(x0_hat, x0, atol=1e-9)
        kept = (mean - np.sqrt(alpha_bar) * x0) / eps
        np.testing.assert_allclose(kept**2 + variance, 1 - alpha_bar, atol=1e-6)
        np.testing.assert_allclose(variance, eta**2 * diffusion.schedule.beta_tilde[t])


def test_without_noise_each_step_is_an_euler_step():
    # Eq. 13: x_{t−1}/√ᾱ_{t−1} = x_t/√ᾱ_t + (σ̄_{t−1} − σ̄_t) ε, σ̄² = (1 − ᾱ)/ᾱ.
    diffusion = GaussianDiffusion(SCHEDULE)
    root = np.sqrt(SCHEDULE.alpha_bar)
    sigma_bar = np.sqrt(1 / SCHEDULE.alpha_bar - 1)
    x = np.random.default_rng(0).standard_normal(SMALL)
    for step in diffusion.ddim_steps_from(some_model, x, clip=False):
        t = step.t
        eps = some_model(x, np.full(len(x), t))
        x = root[t - 1] * (x / root[t] + (sigma_bar[t - 1] - sigma_bar[t]) * eps)
        np.testing.assert_allclose(step.x, x, atol=1e-12)


def test_without_noise_only_the_start_is_random():
    diffusion = GaussianDiffusion(SCHEDULE)
    x_T = np.random.default_rng(0).standard_normal(SMALL)

    def end(eta, seed):
        *_, last = diffusion.ddim_steps_from(some_model, x_T, eta=eta, seed=seed)
        return last.x

    np.testing.assert_array_equal(end(0.0, 1), end(0.0, 2))
    assert not np.array_equal(end(0.5, 1), end(0.5, 2))


def test_the_start_is_that_of_ancestral_sampling():
    starts = []

    def model(x, t):
        if t[0] == SCHEDULE.T:
            starts.append(x)
        return some_model(x, t)

    diffusion = GaussianDiffusion(SCHEDULE)
    diffusion.sample(model, SMALL, seed=4)
    whole = diffusion.ddim(model, SMALL, seed=4, eta=0.5)
    np.testing.assert_array_equal(*starts)
    *_, last = diffusion.ddim_steps_from(some_model, starts[0], seed=4, eta=0.5)
    np.testing.assert_array_equal(last.x, whole)


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_the_last_step_is_the_image_foreseen(eta):
    diffusion = GaussianDiffusion(SCHEDULE)
    steps = list(diffusion.ddim_steps(some_model, SMALL, eta=eta, seed=7))
    assert [step.t for step in steps] == [6, 5, 4, 3, 2, 1]
    assert all(np.abs(step.x0_hat).max() <= 1 for step in steps)
    np.testing.assert_array_equal(steps[-1].x, steps[-1].x0_hat)
    np.testing.assert_array_equal(steps[-1].x, diffusion.ddim(some_model, SMALL, eta=eta, seed=7))
    unclipped = diffusion.ddim(some_model, SMALL, eta=eta, seed=7, clip=False)
    assert np.abs(unclipped).max() > 1


@pytest.mark.parametrize("cut", [1, 3])
@pytest.mark.parametrize("eta", [0.0, 0.7])
def test_a_batch_cut_in_two_gives_the_same_images_to_the_bit(cut, eta):
    diffusion = GaussianDiffusion(SCHEDULE)
    whole = diffusion.ddim(some_model, SMALL, seed=5, eta=eta)
    first = diffusion.ddim(some_model, (cut, *SMALL[1:]), seed=5, eta=eta)
    rest_shape = (SMALL[0] - cut, *SMALL[1:])
    rest = diffusion.ddim(some_model, rest_shape, seed=5, eta=eta, first_sample=cut)
    np.testing.assert_array_equal(np.concatenate([first, rest]), whole)
    other = diffusion.ddim(some_model, SMALL, seed=5, eta=eta, stream="preview")
    assert not np.array_equal(other, whole)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_dtype_times_and_progress(dtype):
    diffusion = GaussianDiffusion(NoiseSchedule.linear()).respace(4)
    seen, progress = [], []

    def model(xt, t):
        seen.append((xt.dtype, t.tolist()))
        return some_model(xt, t)

    x = diffusion.ddim(model, SMALL, eta=0.5, dtype=dtype, progress=progress.append)
    assert x.dtype == dtype
    assert seen == [(np.dtype(dtype), [t] * 4) for t in (1000, 667, 334, 1)]
    assert progress == [4, 3, 2, 1]


@pytest.mark.parametrize("eta", [-0.1, 1.1, float("nan")])
def test_more_noise_than_ancestral_sampling_has_is_refused(eta):
    with pytest.raises(errors.UsageError, match="eta must lie"):
        GaussianDiffusion(SCHEDULE).ddim(some_model, SMALL, eta=eta)


def test_a_model_of_another_shape_is_refused():
    with pytest.raises(errors.UsageError, match="one shape"):
        GaussianDiffusion(SCHEDULE).ddim(lambda xt, _t: xt[..., :1], SMALL)
