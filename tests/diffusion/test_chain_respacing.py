"""Shorter chains: which steps are kept, and that what they keep is the original's."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyddpm import errors
from tinyddpm.diffusion.gaussian import GaussianDiffusion
from tinyddpm.diffusion.respacing import strided_timesteps
from tinyddpm.diffusion.schedule import NoiseSchedule

LINEAR = GaussianDiffusion(NoiseSchedule.linear())


def test_golden_values_of_ten_steps():
    short = LINEAR.respace(10)
    assert short.timesteps.tolist() == [0, *range(1, 1001, 111)]
    golden = [
        *(1.0e-4, 0.12631, 0.31684, 0.46612, 0.58301),
        *(0.67448, 0.74603, 0.80196, 0.84566, 0.87979),
    ]
    np.testing.assert_allclose(short.schedule.beta[1:], golden, rtol=0, atol=5e-6)


@given(st.integers(1, 1000), st.data())
def test_the_steps_kept_are_distinct_even_and_reach_both_ends(T, data):
    steps = data.draw(st.integers(1, T))
    kept = strided_timesteps(T, steps)
    assert kept.shape == (steps + 1,)
    assert kept[0] == 0
    assert kept[-1] == T
    assert np.all(np.diff(kept) >= 1)
    if steps > 1:
        assert kept[1] == 1
        assert np.ptp(np.diff(kept[1:])) <= 1


def published_timesteps(T, steps):
    """The times from 0 that improved-diffusion keeps (its respace.py), as it finds them."""
    stride, time, kept = (T - 1) / (steps - 1), 0.0, []
    for _ in range(steps):
        kept.append(round(time))
        time += stride
    return kept


@pytest.mark.parametrize("T", [24, 50, 500, 1000, 4000])
def test_the_steps_kept_are_the_published_ones(T):
    """Where one lies half-way between two times, as the middle one of 501 in 1000 does, too."""
    for steps in range(2, min(T, 600) + 1):
        kept = [t + 1 for t in published_timesteps(T, steps)]
        assert strided_timesteps(T, steps).tolist() == [0, *kept], steps


@pytest.mark.parametrize("schedule", [NoiseSchedule.linear(), NoiseSchedule.cosine()])
@pytest.mark.parametrize("steps", [1, 2, 7, 50, 999])
def test_alpha_bar_of_the_short_chain_is_the_original_on_its_steps(schedule, steps):
    short = GaussianDiffusion(schedule).respace(steps)
    assert len(short.timesteps) == len(short.schedule.beta) == steps + 1
    kept = schedule.alpha_bar[short.timesteps]
    # A β that is nearly 1 is rounded by 1e-16, and so is 1 − β.
    np.testing.assert_allclose(short.schedule.alpha_bar, kept, rtol=1e-11, atol=2e-16)
    noise = schedule.one_minus_alpha_bar[short.timesteps]
    np.testing.assert_allclose(short.schedule.one_minus_alpha_bar, noise, rtol=1e-10)


def test_small_betas_keep_their_digits():
    """Of a β of 1e-13, 1 − ᾱ/ᾱ′ would have three digits left."""
    schedule = NoiseSchedule.log_snr_linear(1000, gamma_min=-30.0)
    short = GaussianDiffusion(schedule).respace(500)
    assert short.schedule.beta[1] < 1e-12
    noise = schedule.one_minus_alpha_bar[short.timesteps]
    np.testing.assert_allclose(short.schedule.one_minus_alpha_bar, noise, rtol=1e-12)


def test_all_steps_are_the_chain_itself():
    whole = LINEAR.respace(1000)
    np.testing.assert_array_equal(whole.schedule.beta, LINEAR.schedule.beta)
    np.testing.assert_array_equal(whole.timesteps, np.arange(1001))


def test_the_choices_are_kept():
    short = GaussianDiffusion(NoiseSchedule.cosine(), "v", "beta_tilde").respace(5)
    assert (short.predict, short.variance) == ("v", "beta_tilde")


def test_respacing_twice_still_names_the_original_steps():
    twice = LINEAR.respace(100).respace(10)
    np.testing.assert_array_equal(
        LINEAR.respace(100).timesteps[strided_timesteps(100, 10)], twice.timesteps
    )
    kept = LINEAR.schedule.alpha_bar[twice.timesteps]
    np.testing.assert_allclose(twice.schedule.alpha_bar, kept, rtol=1e-11)


def test_the_model_is_given_the_original_times():
    short, times = LINEAR.respace(4), []

    def model(xt, t):
        times.append(t.tolist())
        return np.zeros_like(xt)

    short.sample(model, (2, 2, 2, 1))
    assert times == [[t, t] for t in (1000, 667, 334, 1)]


@pytest.mark.parametrize("steps", [0, -1, 1001, 2.5, 5.0, "5", None, [1, 2]])
def test_more_or_fewer_steps_than_there_are_is_refused(steps):
    with pytest.raises(errors.UsageError, match=r"1 \.\.\. 1000"):
        LINEAR.respace(steps)
