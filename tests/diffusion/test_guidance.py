"""Classifier-free guidance of classes whose best models are known."""

import numpy as np
import pytest
from gaussian_data import GaussianData
from hypothesis import given
from hypothesis import strategies as st
from montecarlo import consistent, gaussian_test, mutated, seed_of

from tinyddpm import errors
from tinyddpm.diffusion import guidance
from tinyddpm.diffusion.gaussian import GaussianDiffusion
from tinyddpm.diffusion.oracles import MixtureOracle
from tinyddpm.diffusion.schedule import NoiseSchedule

SCHEDULE = NoiseSchedule.from_beta([0.05, 0.1, 0.2, 0.3, 0.4, 0.5])
PIXELS = (2, 100, 100, 1)
SHAPE = (4, 2, 2, 1)
VARIANCE = 0.3
MEANS = np.array([-0.5, 0.4, 0.1])  # of class 0, of class 1, and of images without a class
NULL = 2
WEIGHTS = st.floats(-1.0, 4.0)


def by_class(predict):
    """The network: for each image the best model of Gaussian data with the mean of its label."""

    def model(xt, t, labels):
        mean = MEANS[labels].reshape(-1, 1, 1, 1)
        return GaussianData(mean, VARIANCE, SCHEDULE, predict)(xt, t)

    return model


def guided_data(label, weight, predict="eps"):
    """With one variance for all, ε* is affine in the mean, so guidance is Gaussian data again."""
    mean = MEANS[label] + weight * (MEANS[label] - MEANS[NULL])
    return GaussianData(mean, VARIANCE, SCHEDULE, predict)


@given(WEIGHTS, st.integers(0, 1), st.sampled_from(["eps", "x0", "v", "score"]), st.integers(0, 99))
def test_guidance_shifts_the_mean_away_from_that_of_no_class(weight, label, predict, seed):
    labels = np.full(SHAPE[0], label)
    model = guidance.guided_model(by_class(predict), labels, null_label=NULL, weight=weight)
    diffusion = GaussianDiffusion(SCHEDULE, predict)
    arguments = {"seed": seed, "clip": False, "dtype": np.float64}
    for sample in (diffusion.sample, diffusion.ddim):
        expected = sample(guided_data(label, weight, predict), SHAPE, **arguments)
        np.testing.assert_allclose(sample(model, SHAPE, **arguments), expected, atol=1e-9)


def samples_against_moments(module, weight, label, seed):
    """Null: the pixels are independent, 𝒩 with the moments of data of the shifted mean."""
    labels = np.full(PIXELS[0], label)
    model = module.guided_model(by_class("eps"), labels, null_label=NULL, weight=weight)
    diffusion = GaussianDiffusion(SCHEDULE)
    x = diffusion.sample(model, PIXELS, seed=seed, clip=False, dtype=np.float64)
    return gaussian_test(x, *guided_data(label, weight).sampled_moments(SCHEDULE, "beta"))


@given(WEIGHTS, st.integers(0, 1))
def test_guided_samples_have_the_shifted_mean(weight, label):
    seed = seed_of("guidance", weight, label)
    assert consistent(*samples_against_moments(guidance, weight, label, seed))


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("(1.0 + weight) * conditional - weight", "(1.0 - weight) * conditional + weight"),
        ("(1.0 + weight) * conditional - weight", "weight * conditional + (1.0 - weight)"),
        ("(1.0 + weight) * conditional - weight", "(1.0 + weight) * conditional + weight"),
        ("np.concatenate([labels, np.full_like(labels, null_label)])", "np.tile(labels, 2)"),
        ("np.concatenate([labels, np.full", "np.concatenate([labels * 0, np.full"),
        ("output[: len(xt)], output[len(xt) :]", "output[len(xt) :], output[: len(xt)]"),
    ],
)
def test_wrong_guidance_is_rejected(right, wrong):
    # The second is the form in which weight 1 is the conditional model: another convention.
    module = mutated(guidance, right, wrong)
    assert not consistent(*samples_against_moments(module, 1.5, 1, 0))
    assert consistent(*samples_against_moments(guidance, 1.5, 1, 0))


@given(WEIGHTS, st.integers(0, 2**32 - 1))
def test_it_is_the_gradient_of_the_sharpened_density(weight, seed):
    # Two classes and their mixture: ε̃/−√(1 − ᾱ_t) = ∇ log q(x_t | c)^{1+w} q(x_t)^{−w}.
    weights, means, t = (0.3, 0.7), (-0.6, 0.8), 3
    shape = (len(means), 1, 1, 1)
    mixture = MixtureOracle(SCHEDULE, weights, np.reshape(means, shape), [VARIANCE] * 2)

    def model(xt, t, labels):
        classes = [GaussianData(mean, VARIANCE, SCHEDULE)(xt, t) for mean in means]
        return np.choose(labels.reshape(-1, 1, 1, 1), [*classes, mixture(xt, t)])

    alpha_bar = SCHEDULE.alpha_bar[t]
    spread = alpha_bar * VARIANCE + 1 - alpha_bar

    def log_density(x, mean):
        return -0.5 * (x - np.sqrt(alpha_bar) * mean) ** 2 / spread

    def sharpened(x):
        whole = np.log(
            sum(w * np.exp(log_density(x, m)) for w, m in zip(weights, means, strict=True))
        )
        return (1 + weight) * log_density(x, means[1]) - weight * whole

    xt = np.random.default_rng(seed).standard_normal((5, 1, 1, 1))
    guided = guidance.guided_model(model, np.ones(5, int), null_label=2, weight=weight)
    score = sharpened(xt + 1e-30j).imag / 1e-30
    found = guided(xt, np.full(5, t))
    np.testing.assert_allclose(found, -np.sqrt(1 - alpha_bar) * score, atol=1e-10)


def test_weight_0_is_the_conditional_model_to_the_bit():
    seen = []

    def model(xt, _t, labels):
        seen.append((len(xt), labels.tolist()))
        return np.tanh(xt * (1 + labels.reshape(-1, 1, 1, 1)))

    labels = np.array([0, 1, 1, 0])
    xt = np.random.default_rng(0).standard_normal(SHAPE).astype(np.float32)
    t = np.full(4, 2)
    found = guidance.guided_model(model, labels, null_label=NULL, weight=0.0)(xt, t)
    assert seen == [(4, [0, 1, 1, 0])]
    np.testing.assert_array_equal(found, model(xt, t, labels))
    alone = guidance.guided_model(model, labels, null_label=NULL, weight=-1.0)(xt, t)
    np.testing.assert_array_equal(alone, model(xt, t, np.full(4, NULL)))


def test_there_is_one_call_a_step_of_twice_the_size():
    seen = []

    def model(xt, t, labels):
        seen.append((xt.dtype, xt.shape, t.tolist(), labels.tolist()))
        np.testing.assert_array_equal(xt[:4], xt[4:])
        return np.tanh(xt)

    guided = guidance.guided_model(model, [0, 1, 1, 0], null_label=NULL, weight=2.0)
    x = GaussianDiffusion(SCHEDULE).respace(2).sample(guided, SHAPE)
    assert x.dtype == np.float32
    labels = [0, 1, 1, 0, 2, 2, 2, 2]
    assert seen == [(np.float32, (8, *SHAPE[1:]), [t] * 8, labels) for t in (6, 1)]


def test_a_learned_variance_is_that_of_the_class():
    def model(xt, _t, labels):
        label = labels.reshape(-1, 1, 1, 1)
        return np.concatenate([xt + label, 0.1 * xt + 10 * label], axis=-1)

    xt = np.random.default_rng(0).standard_normal((2, 2, 2, 3))
    guided = guidance.guided_model(model, [0, 1], null_label=NULL, weight=0.5)(xt, np.ones(2, int))
    label = np.array([0, 1]).reshape(-1, 1, 1, 1)
    np.testing.assert_allclose(guided[..., :3], xt + 1.5 * label - 0.5 * NULL)
    np.testing.assert_array_equal(guided[..., 3:], 0.1 * xt + 10 * label)


def test_labels_are_dropped_where_u_says_so():
    labels, u = np.array([3, 1, 4, 1]), np.array([0.05, 0.1, 0.9, 0.0999])
    dropped = guidance.drop_labels(labels, u, null_label=9, probability=0.1)
    assert dropped.tolist() == [9, 1, 4, 9]
    assert guidance.drop_labels(labels, u, null_label=9, probability=0.0).tolist() == [3, 1, 4, 1]
    assert guidance.drop_labels(labels, u, null_label=9, probability=1.0).tolist() == [9] * 4


def test_bytes_are_labels_of_256_classes_and_of_none():
    """As bytes, ∅ = 256 would be class 0."""
    labels, seen = np.array([0, 255], np.uint8), []
    dropped = guidance.drop_labels(labels, np.array([0.0, 0.9]), null_label=256, probability=0.5)
    assert dropped.tolist() == [256, 255]

    def model(xt, _t, labels):
        seen.append(labels.tolist())
        return xt

    guided = guidance.guided_model(model, labels, null_label=256, weight=1.0)
    guided(np.zeros((2, *SHAPE[1:])), np.array([1, 1]))
    assert seen == [[0, 255, 256, 256]]


def test_what_does_not_fit_is_refused():
    model = by_class("eps")
    for labels in (1, [[0, 1]], [0.5, 1.0]):
        with pytest.raises(errors.UsageError, match="list of integers"):
            guidance.guided_model(model, labels, null_label=NULL, weight=1.0)
    guided = guidance.guided_model(model, [0, 1], null_label=NULL, weight=0.0)
    with pytest.raises(errors.UsageError, match="one label for each"):
        GaussianDiffusion(SCHEDULE).sample(guided, SHAPE)
    with pytest.raises(errors.UsageError, match="one shape"):
        guidance.guide(np.zeros((2, 2)), np.zeros((1, 2)), 1.0)
    with pytest.raises(errors.UsageError, match="probability"):
        guidance.drop_labels(np.zeros(2, int), np.zeros(2), null_label=1, probability=1.5)
    with pytest.raises(errors.UsageError, match="one shape"):
        guidance.drop_labels(np.zeros(2, int), np.zeros(3), null_label=1, probability=0.5)


def test_a_model_that_is_no_function_or_gives_no_array_is_refused():
    """So of a network as it is, and of all that its ``forward`` returns."""
    with pytest.raises(errors.UsageError, match="the model is a function"):
        guidance.guided_model(SCHEDULE, [0, 1], null_label=NULL, weight=1.0)
    guided = guidance.guided_model(lambda xt, *_: (xt, None), [0] * 2, null_label=NULL, weight=1.0)
    with pytest.raises(errors.UsageError, match="output must be an array"):
        guided(np.zeros((2, *SHAPE[1:])), np.array([1, 1]))
