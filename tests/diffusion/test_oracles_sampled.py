"""What the samplers make of data whose best model is exact, against the law it must have."""

import numpy as np
import pytest
from gaussian_data import GaussianData
from hypothesis import given
from hypothesis import strategies as st
from montecarlo import consistent, gaussian_test, ks_test, mutated, seed_of, subgamma_test

from tinyddpm.diffusion import oracles, sampling
from tinyddpm.diffusion.affine_chain import affine_chain
from tinyddpm.diffusion.gaussian import GaussianDiffusion
from tinyddpm.diffusion.schedule import NoiseSchedule
from tinyddpm.ops import normal

VARIANCES = st.sampled_from(["beta", "beta_tilde"])
COLUMN = (20_000, 1, 1, 1)
KINDS = (0.25, 0.75), (-0.6, 0.5), (0.2, 0.01)  # weights, means, variances


def mixture(module, schedule):
    weights, means, variances = KINDS
    return module.MixtureOracle(schedule, weights, np.reshape(means, (2, 1, 1, 1)), variances)


def mixture_cdf(x, alpha_bar=1.0):
    """The distribution function of x_t."""
    total = np.zeros_like(x)
    for w, m, s2 in zip(*KINDS, strict=True):
        spread = np.sqrt(alpha_bar * s2 + 1 - alpha_bar)
        total += w * normal.cdf((x - np.sqrt(alpha_bar) * m) / spread)
    return total


def chain_cdf(diffusion, oracle):
    """The distribution function of the x_0 of the reverse chain of one pixel, by quadrature.

    p(x_{t−1}) = ∫ 𝒩(x_{t−1}; μ_θ(x, t), σ_t²) p(x_t = x) dx on a grid. The last step is
    x_0 = μ_θ(x_1), which rises with x_1, so that P(x_0 ≤ μ_θ(x)) = P(x_1 ≤ x).
    """
    grid = np.linspace(-5.5, 5.5, 1101)
    x = grid.reshape(-1, 1, 1, 1)
    width = grid[1] - grid[0]
    density = np.exp(-0.5 * grid**2) / np.sqrt(2 * np.pi)
    for t in range(diffusion.schedule.T, 0, -1):
        output = oracle(x, np.full(len(x), diffusion.timesteps[t]))
        mean, variance, *_ = diffusion.p_mean_variance(output, x, t, clip=False)
        if t > 1:
            sigma2 = variance[0].item()
            kernel = np.exp(-0.5 * (grid[:, None] - mean.ravel()) ** 2 / sigma2)
            density = kernel @ density * width / np.sqrt(2 * np.pi * sigma2)
    assert np.all(np.diff(mean.ravel()) > 0)
    cumulative = np.concatenate([[0], np.cumsum((density[1:] + density[:-1]) / 2) * width])
    assert cumulative[-1] == pytest.approx(1, abs=1e-4)  # narrow steps are coarse on it
    return lambda x0: np.interp(x0, mean.ravel(), cumulative)


ORIGINAL = NoiseSchedule.cosine()
COARSE = NoiseSchedule.from_beta([0.05, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6])


@pytest.mark.parametrize("variance", ["beta", "beta_tilde"])
def test_a_mixture_is_sampled_with_the_law_of_its_chain(variance):
    # Null: the pixels are independent draws from that law.
    diffusion, oracle = GaussianDiffusion(COARSE, variance=variance), mixture(oracles, COARSE)
    arguments = {"seed": 2, "clip": False, "dtype": np.float64}
    x = diffusion.sample(oracle, COLUMN, **arguments)
    expected = chain_cdf(diffusion, oracle)
    assert consistent(ks_test(x, expected))
    for right, wrong in (
        ("(noise(t)) if", "(noise(0)) if"),
        ("noise(t)) if t > 1 else", "noise(t)) if t > 0 else"),
        (".sqrt(variance)", ".positive(variance)"),
    ):
        x = mutated(sampling, right, wrong).sample(diffusion, oracle, COLUMN, **arguments)
        assert not consistent(ks_test(x, expected)), wrong


@pytest.mark.parametrize("variance", ["beta", "beta_tilde"])
def test_the_law_of_the_chain_tends_to_that_of_the_data(variance):
    grid = np.linspace(-2, 2, 401)
    whole, oracle = GaussianDiffusion(ORIGINAL, variance=variance), mixture(oracles, ORIGINAL)
    distances = []
    for steps in (10, 20, 40, 80):
        law = chain_cdf(whole.respace(steps), oracle)
        distances.append(np.abs(law(grid) - mixture_cdf(grid)).max())
    ratios = np.array(distances[:-1]) / distances[1:]
    assert np.all((ratios > 1.6) & (ratios < 2.4)), distances


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("xp.asarray(np.log(self.weights))", "0"),
        ("off_centre.shape[-1] * xp.log(v)", "0"),
        ("((r / v)[..., None]", "(r[..., None]"),
    ],
)
def test_samples_of_a_wrong_oracle_are_rejected(right, wrong):
    diffusion, oracle = GaussianDiffusion(COARSE), mixture(mutated(oracles, right, wrong), COARSE)
    x = diffusion.sample(oracle, COLUMN, seed=2, clip=False, dtype=np.float64)
    assert not consistent(ks_test(x, chain_cdf(diffusion, mixture(oracles, COARSE))))


def test_without_noise_a_mixture_flows_along_its_quantiles():
    # The flow of one pixel is monotone and keeps P(x_t ≤ ·), so F_0(x_0) = F_T(x_T) in the limit.
    missed = []
    for T in (50, 100, 200, 400):
        schedule = NoiseSchedule.linear(T)
        x_T = np.linspace(-2.5, 2.5, 101).reshape(-1, 1, 1, 1)
        steps = GaussianDiffusion(schedule).ddim_steps_from(
            mixture(oracles, schedule), x_T, clip=False
        )
        *_, last = steps
        expected = mixture_cdf(x_T, schedule.alpha_bar[-1])
        missed.append(np.abs(mixture_cdf(last.x) - expected).max())
    ratios = np.array(missed[:-1]) / missed[1:]
    assert np.all((ratios > 1.5) & (ratios < 3.0)), missed
    assert missed[-1] < 0.01


@given(
    st.lists(st.floats(1e-2, 0.9), min_size=2, max_size=10),
    st.integers(0, 2**32 - 1),
    VARIANCES,
)
def test_pixels_of_their_own_mean_and_variance(beta, seed, variance):
    # Null: each pixel, taken over the images, is 𝒩 with the moments of the chain.
    schedule = NoiseSchedule.from_beta(beta)
    rng = np.random.default_rng(seed)
    mean, spread = rng.uniform(-1, 1, (2, 1, 2)), rng.uniform(0.05, 2, (2, 1, 2))
    oracle = oracles.GaussianOracle(schedule, mean, spread)
    diffusion = GaussianDiffusion(schedule, variance=variance)
    seed = seed_of("pixels", beta, seed, variance)
    x = diffusion.sample(oracle, (4000, 2, 1, 2), seed=seed, clip=False, dtype=np.float64)
    moments = affine_chain(diffusion, oracle, (2, 1, 2)).sampled_moments()
    for i in np.ndindex(2, 1, 2):
        expected_mean, expected_variance = (moment[i] for moment in moments)
        assert consistent(*gaussian_test(x[:, *i], expected_mean, expected_variance))
        # The same moments from Algorithm 2 in its own form.
        data = GaussianData(mean[i], spread[i], schedule)
        again = data.sampled_moments(schedule, variance)
        assert (expected_mean, expected_variance) == pytest.approx(again, rel=1e-8, abs=1e-10)


@pytest.mark.parametrize("steps", [5, 25, 100])
@pytest.mark.parametrize("data_variance", [0.1, 0.5, 0.9])
def test_beta_spreads_too_far_and_beta_tilde_too_little(steps, data_variance):
    oracle = oracles.GaussianOracle(ORIGINAL, 0.2, data_variance)
    for variance, sign in (("beta", 1), ("beta_tilde", -1)):
        diffusion = GaussianDiffusion(ORIGINAL, variance=variance).respace(steps)
        mean, spread = affine_chain(diffusion, oracle, (1, 1, 1)).sampled_moments()
        x = diffusion.sample(oracle, COLUMN, seed=3, clip=False, dtype=np.float64)
        assert sign * (spread.item() - data_variance) > 0
        assert consistent(*gaussian_test(x, mean.item(), spread.item()))
        if steps == 5 and data_variance < 0.9:
            assert not consistent(*gaussian_test(x, mean.item(), data_variance))


def test_pixels_of_variance_1_are_sampled_exactly_with_beta_but_for_the_last_step():
    # σ² = β is the true reverse variance; the noise that the last step leaves out is β_1.
    schedule = NoiseSchedule.from_beta([0.1, 0.3, 0.5])
    diffusion, oracle = GaussianDiffusion(schedule), oracles.GaussianOracle(schedule, 0.0, 1.0)
    mean, spread = affine_chain(diffusion, oracle, (1, 1, 1)).sampled_moments()
    assert mean.item() == 0
    assert spread.item() == pytest.approx(1 - 0.1, rel=1e-12)


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_corners_of_a_cube_are_sampled_like_tosses_of_a_coin(eta):
    # The data are {−1, 1}³. r is a product over pixels, so each pixel is a chain by itself, and x̂_0
    # is odd in x_t: the signs of x_0 are fair coins, independent, and x_0 lies near a corner.
    corners = np.stack(np.meshgrid(*[[-1.0, 1.0]] * 3), axis=-1).reshape(8, 1, 1, 3)
    oracle = oracles.FiniteDataOracle(ORIGINAL, corners)
    diffusion = GaussianDiffusion(ORIGINAL).respace(20)
    x = diffusion.ddim(oracle, (4000, 1, 1, 3), seed=5, eta=eta, clip=False, dtype=np.float64)
    np.testing.assert_allclose(np.abs(x), 1, atol=1e-6)
    signs = np.sign(x).reshape(-1, 3)
    # A sign s has log E e^{θs} = log cosh θ ≤ ½ θ², and so has a product of them.
    for product in (*signs.T, signs[:, 0] * signs[:, 1], signs[:, 1] * signs[:, 2]):
        assert consistent(subgamma_test(product, 0.0, 1.0, 0.0))
