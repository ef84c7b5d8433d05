"""What the methods of GaussianDiffusion take and give: a time for each image, dtypes, refusals."""

import numpy as np
import pytest

from tinyddpm import errors
from tinyddpm.diffusion.gaussian import GaussianDiffusion
from tinyddpm.diffusion.schedule import NoiseSchedule

SHAPE = (3, 4, 2, 2)
PREDICTIONS = ("eps", "x0", "v", "score")


def images(seed, dtype=np.float64):
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(SHAPE).astype(dtype) for _ in range(2)]


def everything(diffusion, x, y, t):
    return [
        diffusion.q_step(x, t, y),
        diffusion.q_sample(x, t, y),
        *diffusion.q_posterior(x, y, t),
        diffusion.predict_x0(x, t, y),
        diffusion.predict_eps(x, t, y),
        diffusion.velocity(x, t, y),
        *diffusion.p_mean_variance(x, y, t),
    ]


@pytest.mark.parametrize("predict", PREDICTIONS)
def test_each_image_has_its_own_time(predict):
    diffusion = GaussianDiffusion(NoiseSchedule.cosine(10), predict)
    x, y = images(2)
    t = np.array([10, 1, 4], np.int32)
    together = everything(diffusion, x, y, t)
    for i, time in enumerate(t):
        alone = everything(diffusion, x[i : i + 1], y[i : i + 1], int(time))
        for found, expected in zip(together, alone, strict=True):
            np.testing.assert_array_equal(found[i : i + 1], expected)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("predict", PREDICTIONS)
def test_the_dtype_is_kept(dtype, predict):
    diffusion = GaussianDiffusion(NoiseSchedule.linear(50), predict)
    x, y = images(3, dtype)
    results = [
        *everything(diffusion, x, y, 3),
        *diffusion.loss(x, y, x, y, 3),
        diffusion.image_losses(x, y, x, y, 3)[0],
    ]
    assert {result.dtype for result in results} == {np.dtype(dtype)}


X = np.zeros(SHAPE)
WRONG_TIMES = [0, 11, -1, [1, 2], [[1, 2, 3]], [1, 2, 11], [0, 1, 2], 1.0, [1.0, 2.0, 3.0], True]


@pytest.mark.parametrize("t", WRONG_TIMES)
@pytest.mark.parametrize("predict", PREDICTIONS)
def test_times_out_of_range_or_of_another_kind_are_refused(t, predict):
    diffusion = GaussianDiffusion(NoiseSchedule.cosine(10), predict)
    calls = [
        lambda: diffusion.q_step(X, t, X),
        lambda: diffusion.predict_x0(X, t, X),
        lambda: diffusion.predict_eps(X, t, X),
        lambda: diffusion.velocity(X, t, X),
        lambda: diffusion.q_posterior(X, X, t),
        lambda: diffusion.p_mean_variance(X, X, t),
        lambda: diffusion.loss(X, X, X, X, t),
        lambda: diffusion.image_losses(X, X, X, X, t),
    ]
    for call in calls:
        with pytest.raises(errors.UsageError, match=r"^t must"):
            call()


def test_clean_images_have_a_time_before_the_first():
    diffusion = GaussianDiffusion(NoiseSchedule.cosine(10))
    diffusion.q_sample(X, np.array([0, 1, 10]), X)
    for t in (-1, 11):
        with pytest.raises(errors.UsageError, match=r"t must lie in 0 \.\.\. 10"):
            diffusion.q_sample(X, t, X)


@pytest.mark.parametrize("other", [X[:1], X[0], np.zeros((3, 4, 2, 1))])
def test_images_of_different_shapes_are_refused(other):
    diffusion = GaussianDiffusion(NoiseSchedule.cosine(10))
    calls = [
        lambda: diffusion.q_step(X, 1, other),
        lambda: diffusion.q_sample(X, 1, other),
        lambda: diffusion.predict_x0(X, 1, other),
        lambda: diffusion.predict_eps(X, 1, other),
        lambda: diffusion.velocity(X, 1, other),
        lambda: diffusion.q_posterior(X, other, 1),
        lambda: diffusion.p_mean_variance(X, other, 1),
        lambda: diffusion.loss(X, X, other, X, 1),
        lambda: diffusion.image_losses(X, X, X, other, 1),
    ]
    for call in calls:
        with pytest.raises(errors.UsageError, match="one shape"):
            call()


def test_images_of_integers_are_refused():
    diffusion = GaussianDiffusion(NoiseSchedule.cosine(10))
    with pytest.raises(errors.UsageError, match="floating-point"):
        diffusion.q_sample(X.astype(np.uint8), 1, X)


def test_unknown_choices_are_refused():
    schedule = NoiseSchedule.cosine(10)
    with pytest.raises(errors.UsageError, match="unknown predict 'noise'"):
        GaussianDiffusion(schedule, "noise")
    with pytest.raises(errors.UsageError, match="unknown variance 'fixed'"):
        GaussianDiffusion(schedule, "eps", "fixed")
    with pytest.raises(errors.UsageError, match="timesteps"):
        GaussianDiffusion(schedule, timesteps=np.arange(10))
