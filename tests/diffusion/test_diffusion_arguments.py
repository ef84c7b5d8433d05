"""What the methods of GaussianDiffusion take and give: a time for each image, dtypes, refusals."""

import sys

import numpy as np
import pytest

from tinyddpm import errors
from tinyddpm.diffusion.gaussian import GaussianDiffusion
from tinyddpm.diffusion.guidance import guide
from tinyddpm.diffusion.interpolation import slerp
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


@pytest.mark.parametrize(
    "number", [np.float64, np.float32, np.int64], ids=lambda kind: kind.__name__
)
def test_a_number_of_numpy_is_as_good_as_one_of_python(number):
    """Such as those of ``np.linspace``, which widen float32 arrays."""
    x, y = images(4, np.float32)
    learned = GaussianDiffusion(NoiseSchedule.cosine(10), variance="learned")
    both = np.concatenate([x, y], axis=-1)
    calls = [
        lambda one: [guide(x, y, one)],
        lambda one: [learned.ddim(lambda xt, _: np.concatenate([xt, xt], -1), SHAPE, eta=one)],
        lambda one: [*learned.loss(both, x, y, x, 3, vlb_weight=one)],
        lambda one: [slerp(x, y, one)],
    ]
    for call in calls:
        for found, expected in zip(call(number(1)), call(1.0), strict=True):
            assert found.dtype == np.float32
            np.testing.assert_array_equal(found, expected)


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
        lambda: diffusion.target(X, X, t),
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
        lambda: diffusion.target(X, other, 1),
        lambda: diffusion.q_posterior(X, other, 1),
        lambda: diffusion.p_mean_variance(X, other, 1),
        lambda: diffusion.loss(X, X, other, X, 1),
        lambda: diffusion.image_losses(X, X, X, other, 1),
    ]
    for call in calls:
        with pytest.raises(errors.UsageError, match="one shape"):
            call()


def test_images_of_integers_are_refused():
    """Without that, L_T would come back as whole nats, and a score as ∞."""
    diffusion, black = GaussianDiffusion(NoiseSchedule.cosine(10)), X.astype(np.uint8)
    calls = [
        lambda: diffusion.q_sample(black, 1, X),
        lambda: diffusion.target(black, black, 1),
        lambda: diffusion.predict_x0_backward(black, 1),
        lambda: diffusion.prior_term(black),
    ]
    for call in calls:
        with pytest.raises(errors.UsageError, match="floating-point"):
            call()
    learned = GaussianDiffusion(NoiseSchedule.cosine(10), variance="learned")
    with pytest.raises(errors.UsageError, match="floating-point"):
        learned.predict_x0(X, 1, np.zeros((*SHAPE[:-1], 2 * SHAPE[-1]), int))


def test_unknown_choices_are_refused():
    schedule = NoiseSchedule.cosine(10)
    with pytest.raises(errors.UsageError, match="unknown predict 'noise'"):
        GaussianDiffusion(schedule, "noise")
    with pytest.raises(errors.UsageError, match="unknown variance 'fixed'"):
        GaussianDiffusion(schedule, "eps", "fixed")


@pytest.mark.parametrize(
    "timesteps", [[0, 1], [0, 1, 2, 3], [0, 2, 2], [0, 2, 1], [1, 2, 3], [0.0, 1.0, 2.0]], ids=str
)
def test_timesteps_that_do_not_rise_from_zero_are_refused(timesteps):
    schedule = NoiseSchedule.cosine(2)
    with pytest.raises(errors.UsageError, match="whole numbers that rise from 0"):
        GaussianDiffusion(schedule, timesteps=timesteps)
    assert GaussianDiffusion(schedule, timesteps=[0, 3, 9]).timesteps.tolist() == [0, 3, 9]


@pytest.mark.parametrize(
    "schedule", [1000, "linear", NoiseSchedule.cosine(10).beta, NoiseSchedule], ids=type
)
def test_a_diffusion_is_made_of_a_schedule(schedule):
    with pytest.raises(errors.UsageError, match="made of a NoiseSchedule") as refusal:
        GaussianDiffusion(schedule)
    assert "NoiseSchedule.linear(1000)" in refusal.value.remedy


@pytest.mark.parametrize("x", [np.array(0.5), 0.5, X.tolist()], ids=["a number", "a float", "list"])
def test_images_are_arrays(x):
    diffusion = GaussianDiffusion(NoiseSchedule.cosine(10))
    calls = [
        lambda: diffusion.q_sample(x, 1, x),
        lambda: diffusion.predict_x0(x, 1, x),
        lambda: diffusion.loss(x, x, x, x, 1),
        lambda: diffusion.vlb(identity, x),
    ]
    for call in calls:
        with pytest.raises(errors.UsageError, match=r"an array of images \(N, H, W, C\)"):
            call()


def test_arguments_in_another_order_are_refused():
    """predict_x0 takes x_t, t and the output; p_mean_variance the output, x_t and t."""
    diffusion, t = GaussianDiffusion(NoiseSchedule.cosine(10)), 3
    calls = [
        lambda: diffusion.q_sample(X, X, t),
        lambda: diffusion.predict_x0(X, X, t),
        lambda: diffusion.p_mean_variance(X, t, X),
    ]
    for call in calls:
        with pytest.raises(errors.UsageError, match="must have one shape") as refusal:
            call()
        assert "int" in refusal.value.cause


@pytest.mark.parametrize("weights", [[1.0, 2.0], 1.0, np.ones((3, 1)), np.ones((1, 3))], ids=str)
def test_weights_that_are_not_one_an_image_are_refused(weights):
    """A column of weights would be broadcast against the losses, and another mean be taken."""
    diffusion = GaussianDiffusion(NoiseSchedule.cosine(10))
    with pytest.raises(errors.UsageError, match="one weight for each of the 3 images"):
        diffusion.loss(X, X, X, X, 1, weights=weights)
    diffusion.loss(X, X, X, X, 1, weights=[1.0, 2.0, 3.0])


class Network:
    """As a UNet: it has a forward, and cannot be called."""

    def forward(self, x, _t):
        return x, None


def identity(xt, _t):
    return xt


WALKS = {
    "sample": lambda model, shape: GaussianDiffusion(NoiseSchedule.cosine(2)).sample(model, shape),
    "ddim": lambda model, shape: GaussianDiffusion(NoiseSchedule.cosine(2)).ddim(model, shape),
}


@pytest.mark.parametrize("walk", WALKS.values(), ids=WALKS)
@pytest.mark.parametrize("model", [None, Network()], ids=type)
def test_what_is_no_function_is_no_model(walk, model):
    with pytest.raises(errors.UsageError, match="the model is a function") as refusal:
        walk(model, SHAPE)
    assert "network.forward(xt, t - 1)[0]" in refusal.value.remedy
    with pytest.raises(errors.UsageError, match="the model is a function"):
        GaussianDiffusion(NoiseSchedule.cosine(2)).vlb(model, X)


def test_a_walk_is_refused_before_its_first_step():
    diffusion = GaussianDiffusion(NoiseSchedule.cosine(2))
    calls = [
        lambda: diffusion.sample_steps(None, SHAPE),
        lambda: diffusion.sample_steps(identity, SHAPE[0]),
        lambda: diffusion.ddim_steps(None, SHAPE),
        lambda: diffusion.ddim_steps(identity, SHAPE, eta=2.0),
        lambda: diffusion.ddim_steps_from(identity, X.tolist()),
        lambda: diffusion.ddim_invert_steps(None, X),
        lambda: diffusion.ddim_invert_steps(identity, X.tolist()),
    ]
    for call in calls:
        with pytest.raises(errors.UsageError):
            call()


@pytest.mark.parametrize("walk", WALKS.values(), ids=WALKS)
def test_a_model_that_gives_no_array_is_refused(walk):
    with pytest.raises(errors.UsageError, match="must have one shape") as refusal:
        walk(Network().forward, SHAPE)
    assert "output tuple" in refusal.value.cause


@pytest.mark.parametrize("walk", WALKS.values(), ids=WALKS)
@pytest.mark.parametrize("shape", [2, (), (-1, 4, 4, 1), (2.0, 4, 4, 1)], ids=str)
def test_a_shape_that_is_not_one_of_images_is_refused(walk, shape):
    with pytest.raises(errors.UsageError, match=r"must be \(N, H, W, C\)"):
        walk(identity, shape)


@pytest.mark.parametrize("walk", WALKS.values(), ids=WALKS)
def test_no_images_are_a_batch_too(walk):
    assert walk(identity, (0, *SHAPE[1:])).shape == (0, *SHAPE[1:])


@pytest.mark.parametrize("shape", [(5,), (5, 2), (5, 2, 3)], ids=str)
def test_what_is_diffused_need_not_be_an_image(shape):
    """Numbers and points of a plane are diffused as images are: the first axis is the batch."""
    diffusion, t = GaussianDiffusion(NoiseSchedule.cosine(10)), np.array([0, 1, 5, 9, 10])
    x, eps = np.ones(shape), np.full(shape, 2.0)
    signal = np.sqrt(diffusion.schedule.alpha_bar[t])
    noise = np.sqrt(diffusion.schedule.one_minus_alpha_bar[t])
    expected = (signal + 2 * noise).reshape(-1, *(1,) * (len(shape) - 1)) * x
    np.testing.assert_allclose(diffusion.q_sample(x, t, eps), expected, rtol=1e-12)
    for walk in WALKS.values():
        assert walk(identity, shape).shape == shape


@pytest.mark.parametrize("walk", ["sample", "ddim"])
@pytest.mark.parametrize(("device", "said"), [("gpu", "unknown device"), ("cuda", "CuPy is not")])
def test_a_device_that_is_not_there_is_told(monkeypatch, walk, device, said):
    monkeypatch.setitem(sys.modules, "cupy", None)
    diffusion = GaussianDiffusion(NoiseSchedule.cosine(2))
    with pytest.raises(errors.DeviceError, match=said):
        getattr(diffusion, walk)(identity, SHAPE, device=device)


def test_the_original_times_may_be_a_list():
    diffusion = GaussianDiffusion(NoiseSchedule.cosine(2), timesteps=[0, 5, 9])
    seen = []
    diffusion.sample(lambda xt, t: seen.append(t.tolist()) or xt, (1, 2, 2, 1))
    assert seen == [[9], [5]]
