"""Times drawn by importance on the device are those of the host, and so is what is learnt."""

import numpy as np
import pytest

from tinyddpm.diffusion.timestep_sampling import SecondMomentTimes
from tinyddpm.kernels.cuda.loss import ROWS
from tinyddpm.kernels.cuda.second_moment import SecondMoment

pytestmark = pytest.mark.cuda_sim

SEED, BATCH = 7, 57  # images, of no multiple of the losses that are remembered


def state_at(step, failed=0):
    return np.array([step, failed], np.uint32)


def learnt(T, counts):
    """A sampler that has seen losses of very different sizes at each t."""
    host = SecondMomentTimes(T)
    host.counts[1:] = counts
    random = np.random.default_rng(T)
    host.history[1:] = random.lognormal(0, 2, (T, 10)).astype(np.float32)
    return host


def on_the_device(card, host):
    mine = SecondMoment(card, host.history.shape, batch=BATCH, seed=SEED)
    mine.restore(host.state())
    return mine


@pytest.mark.parametrize("T", [1, 3, 1000, 1025, 4000])
@pytest.mark.parametrize("enough", [True, False])
def test_times_and_weights_are_those_of_the_host(card, T, enough):
    host = learnt(T, 10)
    host.counts[T] -= not enough
    mine = on_the_device(card, host)
    expected = host.draw(SEED, step=5, samples=np.arange(BATCH))
    mine.draw(state_at(5))
    np.testing.assert_array_equal(mine.times, expected.t)
    np.testing.assert_allclose(mine.weights, expected.weights, rtol=1e-6)
    assert T == 1 or np.ptp(expected.weights) > 0.1 or not enough


def test_losses_of_nothing_leave_the_times_uniform(card):
    host = learnt(6, 10)
    host.history[...] = 0
    mine = on_the_device(card, host)
    mine.draw(state_at(1))
    np.testing.assert_array_equal(mine.weights, np.ones(BATCH, np.float32))


@pytest.mark.parametrize("T", [1, 4, 50])
def test_losses_are_learnt_in_the_order_of_the_batch(card, T):
    """At T = 1 four times as many as are remembered; some at places that go round the end."""
    host = learnt(T, np.arange(3, 3 + T))
    mine = on_the_device(card, host)
    mine.draw(state_at(ROWS + 2))
    losses = np.random.default_rng(0).random((ROWS, BATCH), np.float32)
    mine.learn(losses, state_at(ROWS + 3))
    host.update(np.array(mine.times), losses[2])
    np.testing.assert_array_equal(mine._history, host.history)
    np.testing.assert_array_equal(mine._counts, host.counts)


def test_of_a_step_that_failed_nothing_is_learnt(card):
    host = learnt(4, 10)
    mine = on_the_device(card, host)
    mine.draw(state_at(3))
    mine.learn(np.ones((ROWS, BATCH), np.float32), state_at(3, failed=3))
    np.testing.assert_array_equal(mine._history, host.history)
    np.testing.assert_array_equal(mine._counts, host.counts)
