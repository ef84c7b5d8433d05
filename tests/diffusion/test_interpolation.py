"""Interpolation of noise: the ends, the arc between them, its length, and what is refused."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyddpm.diffusion.gaussian import GaussianDiffusion
from tinyddpm.diffusion.interpolation import noise_rows, slerp
from tinyddpm.diffusion.schedule import NoiseSchedule
from tinyddpm.rng import normal

seeds = st.integers(0, 2**32 - 1)
fractions = st.floats(0.0, 1.0)


def pairs(seed, n=3, shape=(2, 3, 1), dtype=np.float64):
    drawn = normal(seed, "noise", step=1, samples=np.arange(2 * n), shape=shape, dtype=dtype)
    return drawn[:n], drawn[n:]


def norms(x):
    return np.linalg.norm(x.reshape(len(x), -1), axis=1)


@given(seed=seeds, dtype=st.sampled_from([np.float32, np.float64]))
def test_the_ends_are_there_to_the_bit(seed, dtype):
    first, second = pairs(seed, dtype=dtype)
    np.testing.assert_array_equal(slerp(first, second, 0.0), first)
    np.testing.assert_array_equal(slerp(first, second, 1.0), second)
    assert slerp(first, second, 0.3).dtype == dtype


@given(seed=seeds, f=fractions)
def test_it_turns_the_first_into_the_second_in_their_plane(seed, f):
    """Between unit vectors: u cos(f θ) + w sin(f θ), w at right angles to u, from Gram–Schmidt."""
    first, second = (x / norms(x)[:, None] for x in pairs(seed, shape=(6,)))
    for u, v in zip(first, second, strict=True):
        w = v - (u @ v) * u
        w /= np.linalg.norm(w)
        theta = np.arctan2(v @ w, v @ u)
        turned = u * np.cos(f * theta) + w * np.sin(f * theta)
        np.testing.assert_allclose(slerp(u[None], v[None], f)[0], turned, atol=1e-12)


@given(seed=seeds, f=fractions)
def test_vectors_of_one_length_keep_it(seed, f):
    first, second = pairs(seed)
    second = second * (norms(first) / norms(second)).reshape(-1, 1, 1, 1)
    np.testing.assert_allclose(norms(slerp(first, second, f)), norms(first), rtol=1e-12)


@pytest.mark.parametrize("f", [0.1, 0.5, 0.8])
def test_noise_stays_as_long_as_noise_is(f):
    """The mean of ‖x‖²/D is 1 up to 1/(2D²); a straight line would have f² + (1 − f)²."""
    n, D = 4000, 64
    x = slerp(*pairs(5, n, (8, 8, 1)), f)
    lengths = norms(x) ** 2 / D
    error = lengths.std() / np.sqrt(n)
    assert abs(lengths.mean() - 1) < 5 * error + 1 / (2 * D * D)
    assert error < 0.003


@given(seed=seeds, f=fractions)
def test_parallel_vectors_are_joined_by_a_straight_line(seed, f):
    first, _ = pairs(seed)
    np.testing.assert_allclose(slerp(first, 3 * first, f), (1 + 2 * f) * first, rtol=1e-12)


def test_no_vectors_are_joined_too():
    first, second = pairs(0, n=0)
    assert slerp(first, second, 0.5).shape == first.shape


def test_what_has_no_arc_between_is_refused():
    first, second = pairs(0)
    with pytest.raises(ValueError, match="opposite"):
        slerp(first, -2 * first, 0.5)
    with pytest.raises(ValueError, match="one shape"):
        slerp(first, second[:2], 0.5)
    with pytest.raises(ValueError, match="floating-point"):  # whose weights would all round to 0
        slerp(np.array([[1, 0]]), np.array([[0, 1]]), 0.5)
    with pytest.raises(ValueError, match="at least two"):
        noise_rows(1, 1, (2, 2, 1))


def test_a_row_goes_from_one_image_of_the_sampler_to_the_next():
    """Decoded, its ends are the images of DDIM with the same seed."""
    chain = GaussianDiffusion(NoiseSchedule.cosine(20))

    def model(xt, t):
        return np.tanh(xt) * np.cos(t).reshape(-1, 1, 1, 1)

    shape = (3, 3, 1)
    images = chain.ddim(model, (6, *shape), seed=9, eta=0.0, dtype=np.float64)
    x_T = noise_rows(3, 5, shape, seed=9, dtype=np.float64)
    assert x_T.shape == (15, *shape)
    *_, last = chain.ddim_steps_from(model, x_T)
    rows = last.x.reshape(3, 5, *shape)
    np.testing.assert_array_equal(rows[:, 0], images[::2])
    np.testing.assert_array_equal(rows[:, -1], images[1::2])
    ends = x_T.reshape(3, 5, *shape)
    np.testing.assert_allclose(ends[:, 1], slerp(ends[:, 0], ends[:, 4], 0.25))
