"""log p_θ(x_0) by integration, and the bound: below it by a divergence of joint Gaussians."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from montecarlo import mutated

from tinyddpm import errors
from tinyddpm.diffusion import affine_chain as chains
from tinyddpm.diffusion import oracles
from tinyddpm.diffusion.affine_chain import affine_chain
from tinyddpm.diffusion.gaussian import GaussianDiffusion
from tinyddpm.diffusion.kl import normal_kl
from tinyddpm.diffusion.schedule import NoiseSchedule

PIXEL = (1, 1, 1)
BETAS = st.lists(st.floats(0.02, 0.8), min_size=1, max_size=8)
VARIANCES = st.sampled_from(["beta", "beta_tilde"])
PREDICTIONS = st.sampled_from(["eps", "x0", "v", "score"])
SLOPES, SHIFTS = st.floats(-0.5, 1.0), st.floats(-1.0, 1.0)
X0 = np.linspace(-1.5, 1.5, 7).reshape(-1, 1, 1, 1)


def affine_model(slope, shift):
    """A model that is affine, and not the best for anything."""
    return lambda xt, t: (slope * xt + shift / t.reshape(-1, 1, 1, 1)).astype(xt.dtype)


def density_by_integration(diffusion, model, x0):
    """p_θ(x_0) of one pixel: the integral over x_T, …, x_1, one after another, on a grid."""
    grid = np.linspace(-9, 9, 1201)
    x, width = grid.reshape(-1, 1, 1, 1), grid[1] - grid[0]
    density = np.exp(-0.5 * grid**2) / np.sqrt(2 * np.pi)
    for t in range(diffusion.schedule.T, 0, -1):
        to = grid if t > 1 else x0.ravel()
        output = model(x, np.full(len(x), diffusion.timesteps[t]))
        mean, variance, *_ = diffusion.p_mean_variance(output, x, t, clip=False)
        sigma2 = variance[0].item()
        kernel = np.exp(-0.5 * (to[:, None] - mean.ravel()) ** 2 / sigma2)
        density = kernel @ density * width / np.sqrt(2 * np.pi * sigma2)
    return density


SHORT = st.lists(st.floats(0.1, 0.8), min_size=1, max_size=4)


@given(SHORT, st.floats(-0.8, 0.8), st.floats(0.2, 1.5), VARIANCES)
def test_the_likelihood_of_the_best_model_by_integration(beta, mean, variance, kind):
    schedule = NoiseSchedule.from_beta(beta)
    diffusion = GaussianDiffusion(schedule, variance=kind)
    oracle = oracles.GaussianOracle(schedule, mean, variance)
    found = affine_chain(diffusion, oracle, PIXEL).log_likelihood(X0)
    np.testing.assert_allclose(
        np.exp(found), density_by_integration(diffusion, oracle, X0), rtol=1e-6, atol=1e-12
    )


@given(SHORT, SLOPES, SHIFTS, PREDICTIONS, VARIANCES)
def test_the_likelihood_of_any_affine_model_by_integration(beta, slope, shift, predict, kind):
    diffusion = GaussianDiffusion(NoiseSchedule.from_beta(beta), predict, kind)
    model = affine_model(slope, 0.1 * shift)
    chain = affine_chain(diffusion, model, PIXEL)
    mean, spread = chain.marginals()
    if np.abs(mean).max() + 8 * np.sqrt(spread.max()) < 9:  # else it leaves the grid
        found = np.exp(chain.log_likelihood(X0))
        expected = density_by_integration(diffusion, model, X0)
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-12)


def gap_by_linear_algebra(chain, x0):
    """KL(q(x_{1:T} | x_0) ‖ p(x_{1:T} | x_0)) of one pixel, from the joint Gaussians, (N,).

    q: x_t has mean √ᾱ_t x_0, and Cov(x_s, x_t) = √(ᾱ_t/ᾱ_s) (1 − ᾱ_s) for s ≤ t.
    p: −log p(x_{0:T}) is a sum of squares, of x_T and of (x_{t−1} − a_t x_t − b_t)/σ_t; given x_0,
    the block of its matrix that belongs to x_1 … x_T remains.
    """
    alpha_bar = chain.diffusion.schedule.alpha_bar[1:]
    T = len(alpha_bar)
    s, t = (
        np.minimum.outer(np.arange(T), np.arange(T)),
        np.maximum.outer(np.arange(T), np.arange(T)),
    )
    q_covariance = np.sqrt(alpha_bar[t] / alpha_bar[s]) * (1 - alpha_bar[s])
    rows, target = np.zeros((T + 1, T + 1)), np.zeros(T + 1)
    rows[T, T] = 1
    for step in range(1, T + 1):
        a, b, variance = (
            table[step].item() for table in (chain.slope, chain.shift, chain.variance)
        )
        rows[step - 1, step - 1 : step + 1] = np.array([1, -a]) / np.sqrt(variance)
        target[step - 1] = b / np.sqrt(variance)
    precision, linear = rows.T @ rows, rows.T @ target
    p_precision = precision[1:, 1:]
    gaps = []
    for x in x0.ravel():
        miss = np.linalg.solve(p_precision, linear[1:] - precision[1:, 0] * x)
        miss = miss - np.sqrt(alpha_bar) * x
        log_det = np.linalg.slogdet(p_precision @ q_covariance)[1]
        gaps.append(
            0.5 * (np.trace(p_precision @ q_covariance) - T - log_det + miss @ p_precision @ miss)
        )
    return np.array(gaps)


def bound_and_gap(module, diffusion, model):
    chain = module.affine_chain(diffusion, model, PIXEL)
    missed = chain.log_likelihood(X0) + chain.bound_terms(X0).sum(axis=0)
    return missed, gap_by_linear_algebra(chain, X0)


@given(BETAS, st.floats(-0.8, 0.8), st.floats(0.05, 2), VARIANCES)
def test_the_bound_misses_the_likelihood_of_the_best_model_by_the_divergence(
    beta, mean, variance, kind
):
    schedule = NoiseSchedule.from_beta(beta)
    oracle = oracles.GaussianOracle(schedule, mean, variance)
    missed, gap = bound_and_gap(chains, GaussianDiffusion(schedule, variance=kind), oracle)
    assert missed.min() >= -1e-9
    np.testing.assert_allclose(missed, gap, rtol=1e-6, atol=1e-8)


@given(BETAS, SLOPES, SHIFTS, PREDICTIONS, VARIANCES)
def test_the_bound_misses_the_likelihood_of_any_affine_model_by_the_divergence(
    beta, slope, shift, predict, kind
):
    diffusion = GaussianDiffusion(NoiseSchedule.from_beta(beta), predict, kind)
    missed, gap = bound_and_gap(chains, diffusion, affine_model(slope, shift))
    assert np.all(missed >= -1e-9 * (1 + gap))
    np.testing.assert_allclose(missed, gap, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("+ self.variance[t]\n", "+ (t > 1) * self.variance[t]\n"),
        ("range(len(mean) - 1, 0, -1)", "range(len(mean) - 1, 1, -1)"),
        ("- self.shift[t]\n", "+ self.shift[t]\n"),
        ("ratio - 1.0 - np.log(ratio)", "ratio - 1.0 + np.log(ratio)"),
        ("miss**2 * schedule.one_minus_alpha_bar[t]", "0"),
        ("np.log(2.0 * np.pi * variance) +", "np.log(variance) +"),
        ("- signal2 - np.log(noise2)", "- np.log(noise2)"),
        ("for t in range(2, schedule.T + 1)", "for t in range(2, schedule.T)"),
        ("beta_tilde[t] / self.variance[t]", "beta[t] / self.variance[t]"),
    ],
)
def test_a_wrong_bound_is_rejected(right, wrong):
    schedule = NoiseSchedule.from_beta([0.1, 0.2, 0.3, 0.4])
    diffusion = GaussianDiffusion(schedule)
    oracle = oracles.GaussianOracle(schedule, 0.4, 0.5)
    missed, gap = bound_and_gap(mutated(chains, right, wrong), diffusion, oracle)
    assert np.abs(missed - gap).max() > 1e-3


@given(BETAS)
def test_the_bound_is_the_likelihood_under_the_true_reverse_chain(beta):
    # For x_0 ~ 𝒩(0, I): σ_t² = β_t at every t, and ε* = √(1 − ᾱ_t) x_t. Then p(x_0) is 𝒩(0, I).
    schedule = NoiseSchedule.from_beta(beta)
    diffusion = GaussianDiffusion(schedule, variance="beta")

    def best(xt, t):
        return np.sqrt(1 - schedule.alpha_bar[t]).reshape(-1, 1, 1, 1) * xt

    chain = affine_chain(diffusion, best, PIXEL)
    at_1 = np.array(chain.variance)
    at_1[1] = schedule.beta[1]
    true = replace(chain, variance=at_1)
    expected = -0.5 * (np.log(2 * np.pi) + X0.ravel() ** 2)
    np.testing.assert_allclose(true.log_likelihood(X0), expected, atol=1e-10)
    np.testing.assert_allclose(-true.bound_terms(X0).sum(axis=0), expected, atol=1e-9)
    if len(beta) > 1:  # with β̃_2 at t = 1, as in training, it is not
        assert np.all(-chain.bound_terms(X0).sum(axis=0) < chain.log_likelihood(X0))


@given(BETAS, SLOPES, SHIFTS, PREDICTIONS, VARIANCES)
def test_each_term_by_quadrature(beta, slope, shift, predict, kind):
    # The terms are squares of x_t, for which Gauss–Hermite quadrature is exact.
    diffusion = GaussianDiffusion(NoiseSchedule.from_beta(beta), predict, kind)
    model, T = affine_model(slope, shift), len(beta)
    terms = affine_chain(diffusion, model, PIXEL).bound_terms(X0)
    nodes, weights = np.polynomial.hermite_e.hermegauss(5)
    expected = np.zeros((T + 1, len(X0)))
    for node, weight in zip(nodes, weights / weights.sum(), strict=True):
        for t in range(1, T + 1):
            xt = diffusion.q_sample(X0, t, np.full_like(X0, node))
            mean, variance, log_variance, _ = diffusion.p_mean_variance(
                model(xt, np.full(len(xt), t)), xt, t, clip=False
            )
            if t == 1:
                term = 0.5 * (np.log(2 * np.pi) + log_variance + (X0 - mean) ** 2 / variance)
            else:
                true_mean, true_variance = diffusion.q_posterior(X0, xt, t)
                term = normal_kl(true_mean, np.log(true_variance), mean, log_variance)
            expected[t - 1] += weight * term.ravel()
    signal2 = diffusion.schedule.alpha_bar[T]
    log_noise2 = np.full_like(X0, np.log(1 - signal2))
    prior = normal_kl(np.sqrt(signal2) * X0, log_noise2, np.zeros_like(X0), np.zeros_like(X0))
    expected[T] = prior.ravel()
    np.testing.assert_allclose(terms, expected, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("kind", ["beta", "beta_tilde"])
@pytest.mark.parametrize("schedule", [NoiseSchedule.linear(50), NoiseSchedule.cosine(50)])
def test_the_bound_that_networks_are_measured_by_has_these_terms(schedule, kind):
    # All but L_0, which is the discrete decoder there.
    diffusion = GaussianDiffusion(schedule, variance=kind)
    oracle = oracles.GaussianOracle(schedule, 0.3, 0.4)
    terms = affine_chain(diffusion, oracle, PIXEL).bound_terms(X0)
    nodes, weights = np.polynomial.hermite_e.hermegauss(5)
    for t in range(2, schedule.T + 1):
        found = np.zeros(len(X0))
        for node, weight in zip(nodes, weights / weights.sum(), strict=True):
            xt = diffusion.q_sample(X0, t, np.full_like(X0, node))
            output = oracle(xt, np.full(len(xt), t))
            found += weight * diffusion.bound_term(output, X0, xt, t, clip=False)[0]
        np.testing.assert_allclose(found, terms[t - 1], rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(diffusion.prior_term(X0), terms[-1], rtol=1e-9, atol=1e-12)


def test_pixels_add_up():
    schedule = NoiseSchedule.cosine(6)
    diffusion = GaussianDiffusion(schedule, variance="beta_tilde")
    rng = np.random.default_rng(0)
    mean, variance = rng.uniform(-1, 1, (2, 3, 2)), rng.uniform(0.1, 1, (2, 3, 2))
    x0 = rng.standard_normal((4, 2, 3, 2))
    whole = affine_chain(diffusion, oracles.GaussianOracle(schedule, mean, variance), (2, 3, 2))
    likelihood, terms = np.zeros(4), np.zeros((7, 4))
    for i in np.ndindex(2, 3, 2):
        oracle = oracles.GaussianOracle(schedule, mean[i], variance[i])
        one = affine_chain(diffusion, oracle, PIXEL)
        pixel = x0[:, *i].reshape(4, 1, 1, 1)
        likelihood += one.log_likelihood(pixel)
        terms += one.bound_terms(pixel)
    np.testing.assert_allclose(whole.log_likelihood(x0), likelihood, rtol=1e-10)
    np.testing.assert_allclose(whole.bound_terms(x0), terms, rtol=1e-8, atol=1e-12)


def test_a_respaced_chain_asks_for_the_original_times():
    original = NoiseSchedule.cosine(100)
    short = GaussianDiffusion(original).respace(5)
    oracle = oracles.GaussianOracle(original, 0.3, 0.4)
    own = oracles.GaussianOracle(short.schedule, 0.3, 0.4)
    alone = GaussianDiffusion(short.schedule)
    np.testing.assert_allclose(
        affine_chain(short, oracle, PIXEL).log_likelihood(X0),
        affine_chain(alone, own, PIXEL).log_likelihood(X0),
        rtol=1e-9,
    )


SCHEDULE = NoiseSchedule.from_beta([0.1, 0.2, 0.3])
REFUSED = {
    "nonlinear": lambda xt, _t: np.tanh(xt),
    "square": lambda xt, _t: xt * xt,
    "coupled": lambda xt, _t: 0.5 * (xt + xt[:, :, ::-1]),
}


@pytest.mark.parametrize("model", REFUSED.values(), ids=REFUSED)
def test_a_model_that_is_not_affine_in_each_pixel_is_refused(model):
    with pytest.raises(errors.UsageError, match="affine in each pixel"):
        affine_chain(GaussianDiffusion(SCHEDULE), model, (1, 2, 1))


def test_a_variance_that_depends_on_xt_is_refused():
    def model(xt, _t):
        return np.concatenate([0.5 * xt, 0.1 * xt], axis=-1)

    with pytest.raises(errors.UsageError, match="variance depends on x_t"):
        affine_chain(GaussianDiffusion(SCHEDULE, variance="learned"), model, PIXEL)


def test_images_of_another_shape_are_refused():
    oracle = oracles.GaussianOracle(SCHEDULE, 0.0, 1.0)
    chain = affine_chain(GaussianDiffusion(SCHEDULE), oracle, PIXEL)
    for call in (chain.log_likelihood, chain.bound_terms):
        with pytest.raises(errors.UsageError, match="images of shape"):
            call(np.zeros((2, 2, 1, 1)))
        with pytest.raises(errors.UsageError, match="floating-point"):
            call(np.zeros((2, 1, 1, 1), np.uint8))
