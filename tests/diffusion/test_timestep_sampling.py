"""Drawing t: by what probabilities, with what memory, and without bias."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from montecarlo import consistent, generator, mutated, seed_of, subgamma_test

from tinyddpm import errors, rng
from tinyddpm.diffusion import timestep_sampling
from tinyddpm.diffusion.timestep_sampling import SecondMomentTimes, UniformTimes

N = 40_000


def losses_of(T, *parameters):
    """Terms that differ by orders of magnitude, as those of the bound do."""
    return np.exp(1.5 * generator("losses", T, *parameters).standard_normal(T + 1)).clip(1e-3, 20)


def warmed(module, losses):
    """A sampler that has seen ten losses at every t."""
    sampler = module.SecondMomentTimes(len(losses) - 1)
    for _ in range(10):
        times = np.arange(1, len(losses))
        sampler.update(times, losses[times])
    return sampler


def test_uniform_times_are_those_of_the_random_stream():
    samples = np.arange(3, 9)
    drawn = UniformTimes(50).draw(7, step=2, samples=samples)
    np.testing.assert_array_equal(drawn.t, rng.integers(7, "t", step=2, samples=samples, high=50))
    np.testing.assert_array_equal(drawn.weights, np.ones(6))


def test_until_every_time_has_ten_losses_all_are_equally_likely():
    sampler = SecondMomentTimes(3)
    for _ in range(10):
        sampler.update(np.array([1, 2]), np.array([1.0, 5.0]))
    for _ in range(9):
        sampler.update(np.array([3]), np.array([2.0]))
        np.testing.assert_array_equal(sampler.probabilities, [0, 1 / 3, 1 / 3, 1 / 3])
    np.testing.assert_allclose(sampler.draw(0, step=1, samples=np.arange(9)).weights, 1)
    sampler.update(np.array([3]), np.array([2.0]))
    expected = 0.999 * np.array([0, 1, 5, 2]) / 8 + 0.001 / 3
    np.testing.assert_allclose(sampler.probabilities[1:], expected[1:], rtol=1e-12)
    assert sampler.probabilities[0] == 0


@given(st.lists(st.floats(0, 10), min_size=10, max_size=35))
def test_the_last_ten_losses_count(losses):
    sampler = SecondMomentTimes(2)
    sampler.update(np.ones(len(losses), int), np.array(losses))
    sampler.update(np.full(10, 2), np.full(10, 3.0))
    mean_square = np.mean(np.square(losses[-10:]))
    share = math.sqrt(mean_square) / (math.sqrt(mean_square) + 3)
    assert sampler.probabilities[1] == pytest.approx(0.999 * share + 0.0005, rel=1e-12)
    assert sampler.probabilities.sum() == pytest.approx(1, rel=1e-14)


def test_losses_that_are_all_zero_leave_it_uniform():
    sampler = warmed(timestep_sampling, np.zeros(5))
    np.testing.assert_array_equal(sampler.probabilities[1:], np.full(4, 0.25))


def test_no_time_is_ever_given_up():
    losses = np.zeros(101)
    losses[1] = 5.0
    sampler = warmed(timestep_sampling, losses)
    np.testing.assert_allclose(sampler.probabilities[2:], 1e-5)
    drawn = sampler.draw(0, step=1, samples=np.arange(N))
    assert drawn.weights.max() == pytest.approx(1000)
    assert len(set(drawn.t.tolist())) > 1


def test_a_draw_is_a_function_of_seed_step_and_place():
    sampler = warmed(timestep_sampling, losses_of(50))
    whole = sampler.draw(1, step=4, samples=np.arange(64))
    np.testing.assert_array_equal(
        whole.t[20:], sampler.draw(1, step=4, samples=np.arange(20, 64)).t
    )
    for seed, step in ((2, 4), (1, 5)):
        assert not np.array_equal(sampler.draw(seed, step=step, samples=np.arange(64)).t, whole.t)


def test_a_stored_sampler_goes_on_to_the_bit():
    losses = losses_of(20)
    sampler = warmed(timestep_sampling, losses)
    sampler.update(np.array([4, 4, 9]), np.array([1.0, 2.0, 3.0]))
    state = sampler.state()
    assert {name: array.dtype.name for name, array in state.items()} == {
        "t_history": "float64",
        "t_counts": "int64",
    }
    restored = SecondMomentTimes(20)
    restored.restore(state)
    for each in (sampler, restored):  # the stored arrays are not shared with either
        each.update(np.array([4]), np.array([7.0]))
    np.testing.assert_array_equal(restored.probabilities, sampler.probabilities)
    again = SecondMomentTimes(20)
    again.restore(state)
    assert not np.array_equal(again.probabilities, sampler.probabilities)
    assert UniformTimes(20).state() == {}


@pytest.mark.parametrize("state", [{}, SecondMomentTimes(19).state()])
def test_a_state_of_another_chain_is_refused(state):
    with pytest.raises(errors.UsageError, match=r"t = 1 \.\.\. 20"):
        SecondMomentTimes(20).restore(state)


@pytest.mark.parametrize("t", [[0, 1], [1, 21], [-1, 1], [1], [1.0, 2.0]], ids=str)
def test_losses_of_other_times_are_refused(t):
    """Times counted from 0 would be learnt one row too low, and that of t = 0 forgotten."""
    sampler = SecondMomentTimes(20)
    with pytest.raises(errors.UsageError, match="t must"):
        sampler.update(np.array(t), np.ones(2))
    assert not sampler.counts.any()


def frequencies(module, T, *parameters):
    """Null: t is drawn with the probabilities that the losses call for; the bound is
    ``ks_test``'s, which holds for discrete distributions too.
    """
    losses = losses_of(T, *parameters)
    sampler = warmed(module, losses)
    drawn = sampler.draw(seed_of("t", T, *parameters), step=1, samples=np.arange(N))
    p = 0.999 * losses[1:] / losses[1:].sum() + 0.001 / T
    found = np.cumsum(np.bincount(drawn.t, minlength=T + 1)) / N
    return math.log(2) - 2 * N * np.max(np.abs(found[1 : T + 1] - np.cumsum(p))) ** 2


def weighted_mean(module, T, *parameters):
    """Null: weight × loss has the mean of the losses over all t. It lies between 0 and its largest
    value M, and such a variable, of variance v, is within Bernstein's bound with scale M/3.
    """
    losses = losses_of(T, *parameters)
    # The sampler learnt other losses than these: no p makes the weighted mean biased.
    sampler = warmed(module, np.sqrt(losses))
    drawn = sampler.draw(seed_of("weights", T, *parameters), step=1, samples=np.arange(N))
    p = 0.999 * np.sqrt(losses[1:]) / np.sqrt(losses[1:]).sum() + 0.001 / T
    values = losses[1:] / (T * p)
    variance = p @ values**2 - losses[1:].mean() ** 2
    sample = drawn.weights * losses[drawn.t]
    return subgamma_test(sample, losses[1:].mean(), variance, values.max() / 3)


@given(st.integers(2, 60), st.integers(0, 2**32 - 1))
def test_times_come_as_often_as_they_should(T, seed):
    assert consistent(frequencies(timestep_sampling, T, seed))


@given(st.integers(2, 60), st.integers(0, 2**32 - 1))
def test_the_weighted_loss_is_unbiased(T, seed):
    assert consistent(weighted_mean(timestep_sampling, T, seed))


@given(st.integers(2, 60), st.integers(0, 2**32 - 1))
def test_so_is_the_uniform_one(T, seed):
    losses = losses_of(T, seed)
    drawn = UniformTimes(T).draw(seed, step=1, samples=np.arange(N))
    values = losses[1:]
    sample = drawn.weights * losses[drawn.t]
    assert consistent(subgamma_test(sample, values.mean(), values.var() + 1e-20, values.max() / 3))


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("1.0 / (self.T * p[t])", "1.0 / p[t]"),
        ("1.0 / (self.T * p[t])", "np.ones(len(t))"),
        ("1.0 / (self.T * p[t])", "self.T * p[t]"),
        ("1.0 / (self.T * p[t])", "1.0 / (self.T * np.roll(p, 1)[t] + 1e-9)"),
        ("np.minimum(t, self.T)", "np.minimum(t + 1, self.T)"),
    ],
)
def test_biased_weights_are_rejected(right, wrong):
    module = mutated(timestep_sampling, right, wrong)
    assert not consistent(weighted_mean(module, 30, "mutant"))


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("np.minimum(t, self.T)", "np.minimum(t + 1, self.T)"),
        ("(self.history[1:] ** 2)", "(self.history[1:] ** 4)"),
        ("np.sqrt((self.history", "np.positive((self.history"),
        ("_HISTORY and total > 0.0", "10 * _HISTORY and total > 0.0"),
        ("self.history[time, self", "self.history[time - 1, self"),
    ],
)
def test_other_probabilities_are_rejected(right, wrong):
    module = mutated(timestep_sampling, right, wrong)
    assert not consistent(frequencies(module, 30, "mutant"))
