"""ε* by Tweedie's formula on written-out densities, and from the posterior by brute force."""

import math

import numpy as np
import pytest
from gaussian_data import GaussianData
from hypothesis import given
from hypothesis import strategies as st
from montecarlo import mutated

from tinyddpm import errors
from tinyddpm.diffusion import oracles
from tinyddpm.diffusion.gaussian import GaussianDiffusion
from tinyddpm.diffusion.schedule import NoiseSchedule

SCHEDULE = NoiseSchedule.from_beta([0.02, 0.1, 0.2, 0.4, 0.6])
PIXELS = (2, 1, 2)
SHAPE = (5, *PIXELS)
TIMES = np.arange(1, 6)
SEEDS = st.integers(0, 2**32 - 1)


def tweedie(log_density, xt):
    """ε* = −√(1 − ᾱ_t) ∇ log q_t(x_t), by the complex step, coordinate after coordinate.

    ``log_density`` takes a flattened image (D,) and ᾱ_t.
    """
    eps = np.empty(xt.shape)
    for image, t, result in zip(xt, TIMES, eps, strict=True):
        alpha_bar = SCHEDULE.alpha_bar[t]
        for i in range(image.size):
            step = np.zeros(image.size, complex)
            step[i] = 1e-30j
            slope = log_density(image.ravel() + step, alpha_bar).imag / 1e-30
            result.flat[i] = -np.sqrt(1 - alpha_bar) * slope
    return eps


def mixture(rng):
    return rng.uniform(0.1, 1, 3), rng.standard_normal((3, *PIXELS)), rng.uniform(0.05, 1, 3)


def log_mixture(weights, means, variances):
    """log Σ_k w_k 𝒩(x; √ᾱ m_k, ᾱ s_k² + 1 − ᾱ), as it is written; weights summing to anything."""

    def log_density(x, alpha_bar):
        total = 0
        for w, m, s2 in zip(weights, means, variances, strict=True):
            v = alpha_bar * s2 + 1 - alpha_bar
            square = ((x - np.sqrt(alpha_bar) * m.ravel()) ** 2).sum()
            total = total + w * np.exp(-0.5 * square / v) / v ** (x.size / 2)
        return np.log(total)

    return log_density


@given(SEEDS)
def test_gaussian_pixels_by_tweedie(seed):
    rng = np.random.default_rng(seed)
    mean, variance = rng.standard_normal(PIXELS), rng.uniform(0, 2, PIXELS)
    xt = rng.standard_normal(SHAPE)

    def log_density(x, alpha_bar):
        v = alpha_bar * variance.ravel() + 1 - alpha_bar
        return -0.5 * ((x - np.sqrt(alpha_bar) * mean.ravel()) ** 2 / v).sum()

    found = oracles.GaussianOracle(SCHEDULE, mean, variance)(xt, TIMES)
    np.testing.assert_allclose(found, tweedie(log_density, xt), rtol=1e-9, atol=1e-12)


def test_numbers_stand_for_all_pixels():
    xt = np.random.default_rng(0).standard_normal(SHAPE)
    found = oracles.GaussianOracle(SCHEDULE, 0.3, 0.5)(xt, TIMES)
    np.testing.assert_allclose(found, GaussianData(0.3, 0.5, SCHEDULE)(xt, TIMES), rtol=1e-12)


def mixture_pair(module, seed):
    rng = np.random.default_rng(seed)
    parameters = mixture(rng)
    xt = 1.5 * rng.standard_normal(SHAPE)
    found = module.MixtureOracle(SCHEDULE, *parameters)(xt, TIMES)
    return found, tweedie(log_mixture(*parameters), xt)


@given(SEEDS)
def test_a_mixture_by_tweedie(seed):
    found, expected = mixture_pair(oracles, seed)
    np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("t", TIMES)
def test_a_mixture_by_integrating_over_the_image_behind(t):
    # E[ε | x] = ∫ ε p(x_0) q(x | x_0) dx_0 / ∫ p(x_0) q(x | x_0) dx_0 for one pixel, on a grid.
    weights, means, deviations = np.array([0.2, 0.5, 0.3]), [-1.0, 0.2, 0.9], [0.3, 0.1, 0.5]
    grid = np.linspace(-6, 6, 40_001)
    density = sum(
        w / s * np.exp(-0.5 * ((grid - m) / s) ** 2)
        for w, m, s in zip(weights, means, deviations, strict=True)
    )
    signal, noise = math.sqrt(SCHEDULE.alpha_bar[t]), math.sqrt(1 - SCHEDULE.alpha_bar[t])
    xs = np.linspace(-3, 3, 13)
    oracle = oracles.MixtureOracle(
        SCHEDULE, weights, np.reshape(means, (3, 1, 1, 1)), np.square(deviations)
    )
    found = oracle(xs.reshape(-1, 1, 1, 1), np.full(13, t)).ravel()
    for x, eps_star in zip(xs, found, strict=True):
        eps = (x - signal * grid) / noise
        posterior = density * np.exp(-0.5 * eps**2)
        assert eps_star == pytest.approx((eps * posterior).sum() / posterior.sum(), abs=1e-9)


def finite_pair(module, seed):
    """Against the softmax over training images, image by image and term by term."""
    rng = np.random.default_rng(seed)
    images, xt = rng.uniform(-1, 1, (6, *PIXELS)), rng.standard_normal(SHAPE)
    found = module.FiniteDataOracle(SCHEDULE, images)(xt, TIMES)
    expected = []
    for x, t in zip(xt, TIMES, strict=True):
        signal, noise = math.sqrt(SCHEDULE.alpha_bar[t]), math.sqrt(1 - SCHEDULE.alpha_bar[t])
        eps = [(x - signal * image) / noise for image in images]
        terms = [-0.5 * float((e**2).sum()) for e in eps]
        weights = [math.exp(term - max(terms)) for term in terms]
        expected.append(sum(w * e for w, e in zip(weights, eps, strict=True)) / sum(weights))
    return found, np.array(expected)


@given(SEEDS)
def test_finite_data_by_softmax(seed):
    found, expected = finite_pair(oracles, seed)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)


@given(SEEDS)
def test_finite_data_are_a_mixture_without_spread(seed):
    rng = np.random.default_rng(seed)
    images, xt = rng.uniform(-1, 1, (6, *PIXELS)), rng.standard_normal(SHAPE)
    found = oracles.FiniteDataOracle(SCHEDULE, images)(xt, TIMES)
    mixture_of_points = oracles.MixtureOracle(SCHEDULE, np.ones(6), images, np.zeros(6))
    np.testing.assert_allclose(found, mixture_of_points(xt, TIMES), rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize(
    ("pair", "right", "wrong"),
    [
        (mixture_pair, "xp.asarray(np.log(self.weights))", "0"),
        (mixture_pair, "off_centre.shape[-1] * xp.log(v)", "xp.log(v)"),
        (mixture_pair, "self.variances) + noise2.reshape(n, 1)", "self.variances)"),
        (mixture_pair, "((r / v)[..., None]", "(r[..., None]"),
        (finite_pair, "- 0.5 * squares", "- squares"),
        (finite_pair, "noise2.reshape(column))", "xp.sqrt(noise2.reshape(column)))"),
        (finite_pair, "(x - signal * x0)", "(x - x0)"),
    ],
)
def test_a_wrong_oracle_is_rejected(pair, right, wrong):
    found, expected = pair(mutated(oracles, right, wrong), 0)
    assert np.abs(found - expected).max() > 1e-2


def test_far_out_nothing_overflows():
    schedule = NoiseSchedule.linear()
    images = np.array([-1.0, 1.0]).reshape(2, 1, 1, 1)
    xt = np.array([-1e3, -1.0, 1.0, 1e3]).reshape(4, 1, 1, 1)
    t = np.array([1, 1, 1, 1000])
    nearest = np.array([-1.0, -1.0, 1.0, 1.0]).reshape(4, 1, 1, 1)
    for oracle in (
        oracles.FiniteDataOracle(schedule, images),
        oracles.MixtureOracle(schedule, [1.0, 1e-30], images, [0.0, 0.0]),
    ):
        x0 = GaussianDiffusion(schedule).predict_x0(xt, t, oracle(xt, t))
        np.testing.assert_allclose(x0[:3], nearest[:3], rtol=1e-9)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_the_result_has_the_dtype_of_xt(dtype):
    xt = np.zeros(SHAPE, dtype)
    for oracle in every_oracle():
        eps = oracle(xt, TIMES)
        assert eps.dtype == dtype
        assert eps.shape == SHAPE


def every_oracle():
    rng = np.random.default_rng(0)
    return [
        oracles.GaussianOracle(SCHEDULE, rng.standard_normal(PIXELS), 0.5),
        oracles.MixtureOracle(SCHEDULE, *mixture(rng)),
        oracles.FiniteDataOracle(SCHEDULE, rng.standard_normal((3, *PIXELS))),
    ]


def test_no_images_are_a_batch_too():
    for oracle in every_oracle():
        assert oracle(np.zeros((0, *PIXELS)), np.zeros(0, int)).shape == (0, *PIXELS)


def test_data_may_be_numbers():
    """As images of one pixel."""
    numbers, xt = np.array([-1.0, 0.5, 2.0]), np.linspace(-2, 2, 5)
    pixels = numbers.reshape(3, 1, 1, 1)
    makers = [
        lambda data: oracles.GaussianOracle(SCHEDULE, data[0], 0.5),
        lambda data: oracles.MixtureOracle(SCHEDULE, [1, 2, 3], data, [0.1, 0.2, 0.0]),
        lambda data: oracles.FiniteDataOracle(SCHEDULE, data),
    ]
    for make in makers:
        expected = make(pixels)(xt.reshape(5, 1, 1, 1), TIMES).ravel()
        np.testing.assert_allclose(make(numbers)(xt, TIMES), expected, rtol=1e-12)


def test_images_and_times_that_do_not_fit_are_refused():
    for oracle in every_oracle():
        with pytest.raises(errors.UsageError, match="images of shape"):
            oracle(np.zeros((5, 3, 1, 2)), TIMES)
        with pytest.raises(
            errors.UsageError, match="floating-point"
        ):  # ε* would be cut to integers
            oracle(np.ones(SHAPE, int), TIMES)
        for t in (0, 6):
            with pytest.raises(errors.UsageError, match="t must lie"):
                oracle(np.zeros(SHAPE), np.full(5, t))


POINT = np.zeros((1, 1, 1, 1))
REFUSED = {
    "variance": lambda: oracles.GaussianOracle(SCHEDULE, 0.0, -0.1),
    "kinds": lambda: oracles.MixtureOracle(SCHEDULE, [0.5, 0.5], POINT, [1.0]),
    "no-kind": lambda: oracles.MixtureOracle(SCHEDULE, [], np.zeros((0, 1, 1, 1)), []),
    "weight": lambda: oracles.MixtureOracle(SCHEDULE, [0.0], POINT, [1.0]),
    "spread": lambda: oracles.MixtureOracle(SCHEDULE, [1.0], POINT, [-1.0]),
    "no-images": lambda: oracles.FiniteDataOracle(SCHEDULE, np.zeros((0, 2, 2, 1))),
    "no-list": lambda: oracles.FiniteDataOracle(SCHEDULE, 0.5),
}


@pytest.mark.parametrize("make", REFUSED.values(), ids=REFUSED)
def test_what_is_no_distribution_is_refused(make):
    with pytest.raises(errors.UsageError):
        make()
