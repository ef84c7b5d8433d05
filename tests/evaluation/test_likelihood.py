"""The bound of a data set: unbiased, with an honest error, against chains known in closed form."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from montecarlo import consistent, mutated, seed_of, subgamma_test

from tinyddpm import errors, rng
from tinyddpm.data.pixels import from_bytes
from tinyddpm.diffusion.affine_chain import affine_chain
from tinyddpm.diffusion.decoder import log_probability
from tinyddpm.diffusion.gaussian import GaussianDiffusion
from tinyddpm.diffusion.oracles import GaussianOracle
from tinyddpm.diffusion.schedule import NoiseSchedule
from tinyddpm.evaluation import likelihood, strata
from tinyddpm.evaluation.estimate import estimate
from tinyddpm.evaluation.ledger import compare, ledger, ranges

LN2 = math.log(2.0)
PIXEL = (1, 1, 1)
BETAS = st.lists(st.floats(0.02, 0.7), min_size=6, max_size=14)
VARIANCES = st.sampled_from(["beta", "beta_tilde"])
BETA = [0.02, 0.03, 0.05, 0.08, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7]
EXAMPLE = (BETA, "beta", 20, 3)


def bytes_of(*levels, count=1):
    """One-pixel images: each of ``levels``, ``count`` times."""
    return np.repeat(np.array(levels, np.uint8), count).reshape(-1, *PIXEL)


def oracle_of(diffusion, variance=0.3):
    return GaussianOracle(diffusion.schedule, 0.1, variance)


def quadratic(diffusion, model, x0, t):
    """(A, B, C) with L_{t−1} = A + B ε + C ε² of each one-pixel image, for a model that is affine.

    From three values of ε; float64 throughout.
    """
    terms = []
    for eps in (-1.0, 0.0, 1.0):
        xt = diffusion.q_sample(x0, t, np.full_like(x0, eps))
        output = model(xt, np.full(len(x0), diffusion.timesteps[t]))
        terms.append(diffusion.bound_term(output, x0, xt, t, clip=False)[0])
    below, middle, above = terms
    return middle, (above - below) / 2, (above + below) / 2 - middle


def tails(diffusion, model, x0, cut):
    """The variance and the scale of the sub-gamma law of b = Σ_j n_j L_{t_j−1} of one image.

    L_{t−1} = A + B ε + C ε² has variance v_t = 2 C² + B² and scale 2 C, as −½ log(1 − u) − ½ u is
    at most ¼ u²/(1 − u). A stratum mixes such laws with means e_t within R of each other: variance
    max v_t + R²/4 (Hoeffding), scale max 2 C. Independent strata add their variances.
    """
    variance, scale = 0.0, 0.0
    for first, length in zip(*cut, strict=True):
        if first > 1:
            laws = [quadratic(diffusion, model, x0, t) for t in range(first, first + length)]
            means = [a + c for a, _, c in laws]
            spread = np.max([2 * c**2 + b**2 for _, b, c in laws]) + np.ptp(means) ** 2 / 4
            variance += float(length**2 * spread)
            scale = max(scale, float(length * np.max([2 * c for *_, c in laws])))
    return variance, scale


def middle_is_unbiased(module, beta, kind, level, draws):
    """Whether Σ L_{t−1}, t ≥ 2, of many equal images has the mean that is known in closed form."""
    diffusion = GaussianDiffusion(NoiseSchedule.from_beta(beta), variance=kind)
    T, model, count = len(beta), oracle_of(diffusion), 3000
    seed = seed_of(beta, kind, level, draws)
    images = bytes_of(level, count=count)
    found = module.estimate_likelihood(
        diffusion, model, images, draws=draws, seed=seed, batch=count
    )
    x0 = from_bytes(images[:1], np.float64)
    expected = affine_chain(diffusion, model, PIXEL).bound_terms(x0)[1:T].sum()
    law = tails(diffusion, model, x0, strata.Strata.cut(T, draws))
    return consistent(subgamma_test(found.unclipped.terms(2, T) * LN2, expected, *law))


@given(BETAS, VARIANCES, st.integers(0, 255), st.integers(1, 4))
@example(*EXAMPLE)
def test_the_sum_over_a_few_times_is_that_over_all(beta, kind, level, draws):
    assert middle_is_unbiased(likelihood, beta, kind, level, draws)


@pytest.mark.parametrize(
    ("module", "right", "wrong"),
    [
        (likelihood, "self.length * self.nats", "self.length.mean() * self.nats"),
        (likelihood, "self.length * self.nats", "(self.length - 0.5) * self.nats"),
        (likelihood, "q_sample(x0, t, eps)", "q_sample(x0, t - 1, eps)"),
        (strata, "(u * self.length)", "(u * (self.length - 1))"),
    ],
)
def test_a_wrong_weight_or_time_is_seen(monkeypatch, module, right, wrong):
    mutant = mutated(module, right, wrong)
    if module is strata:
        monkeypatch.setattr(likelihood, "Strata", mutant.Strata)
        mutant = likelihood
    assert not middle_is_unbiased(mutant, *EXAMPLE)


def reconstruction_moments(diffusion, model, x0):
    """Mean and variance of L_0 over x_1, of each one-pixel image, by Gauss–Hermite quadrature."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(120)
    weights = weights / weights.sum()
    x1 = diffusion.q_sample(x0, 1, np.zeros_like(x0))
    x1 = x1 + np.sqrt(diffusion.schedule.beta[1]) * nodes
    x1 = x1.reshape(-1, *PIXEL)
    reverse = diffusion.p_mean_variance(model(x1, np.ones(len(x1), int)), x1, 1, clip=False)
    repeated = np.repeat(x0, len(nodes), axis=0)
    nats = -log_probability(repeated, reverse.mean, reverse.log_variance)[0].reshape(len(x0), -1)
    mean = nats @ weights
    return mean, nats**2 @ weights - mean**2


def test_the_standard_error_is_that_of_images_times_and_noise():
    diffusion = GaussianDiffusion(NoiseSchedule.from_beta(BETA), variance="beta_tilde")
    model, draws, T = oracle_of(diffusion, 0.05), 2, len(BETA)
    levels = np.arange(256)
    x0 = from_bytes(bytes_of(*levels), np.float64)
    mean, variance = reconstruction_moments(diffusion, model, x0)
    mean = mean + diffusion.prior_term(x0)
    of_times = np.zeros(256)
    for first, length in zip(*strata.Strata.cut(T, draws), strict=True):
        if first > 1:
            laws = [quadratic(diffusion, model, x0, t) for t in range(first, first + length)]
            means = np.stack([a + c for a, _, c in laws])
            noise = np.mean([2 * c**2 + b**2 for _, b, c in laws], axis=0)
            variance = variance + length**2 * noise
            of_times += length**2 * means.var(axis=0)
            mean = mean + means.sum(axis=0)
    whole = float((variance + of_times).mean() + mean.var())
    images = bytes_of(*levels, count=100)
    found = likelihood.estimate_likelihood(diffusion, model, images, draws=draws, batch=len(images))
    bound = estimate(found.unclipped.bound()).scaled(LN2)
    assert bound.standard_error * math.sqrt(len(images)) == pytest.approx(
        math.sqrt(whole), rel=0.03
    )
    assert bound.mean == pytest.approx(mean.mean(), abs=5 * math.sqrt(whole / len(images)))
    # The comparison would see each part that an error could leave out.
    for part in (variance.mean(), of_times.mean(), mean.var()):
        assert math.sqrt(whole - part) < 0.94 * math.sqrt(whole)


def network_like(xt, t):
    """A model that is neither affine nor good, of the dtype of x_t."""
    return (np.tanh(2 * xt) + 0.1 * t.reshape(-1, 1, 1, 1) * xt**2).astype(xt.dtype)


IMAGES = np.random.default_rng(0).integers(0, 256, (7, 3, 2, 2)).astype(np.uint8)


@pytest.mark.parametrize("kept", [9, 4])
def test_all_times_are_the_bound_itself_to_the_bit(kept):
    diffusion = GaussianDiffusion(NoiseSchedule.cosine(9)).respace(kept)
    found = likelihood.estimate_likelihood(diffusion, network_like, IMAGES, draws=9, seed=5)
    for draws, clip in zip(found, (True, False), strict=True):
        whole = diffusion.vlb(
            network_like, from_bytes(IMAGES), clip=clip, seed=5, stream="likelihood"
        )
        np.testing.assert_array_equal(draws.nats, whole.nats[:, :-1])
        np.testing.assert_array_equal(draws.prior, whole.nats[:, -1])
        np.testing.assert_allclose(draws.bound(), whole.bits_per_dim.sum(axis=1), rtol=1e-12)
        np.testing.assert_allclose(draws.terms(2, 3), whole.bits_per_dim[:, 1:3].sum(axis=1))


def test_a_chain_of_one_step():
    diffusion = GaussianDiffusion(NoiseSchedule.from_beta([0.3]))
    found = likelihood.estimate_likelihood(diffusion, network_like, IMAGES)
    assert found.clipped.nats.shape == (7, 1)
    assert ledger(found.clipped).entries == []


def test_batches_and_neighbours_do_not_matter():
    diffusion = GaussianDiffusion(NoiseSchedule.cosine(50))
    calls = []
    numbers = np.array([3, 1, 4, 15, 9, 26, 5])

    def measure(chosen, batch):
        return likelihood.estimate_likelihood(
            diffusion,
            network_like,
            IMAGES[chosen],
            samples=numbers[chosen],
            draws=3,
            batch=batch,
            progress=lambda: calls.append(batch),
        )

    whole, parts, alone = measure(slice(None), 7), measure(slice(None), 2), measure([4], 7)
    np.testing.assert_array_equal(parts.clipped.nats, whole.clipped.nats)
    np.testing.assert_array_equal(alone.unclipped.nats[0], whole.unclipped.nats[4])
    assert calls.count(2) == likelihood.model_calls(50, 7, 3, 2) == 4 * 5


def test_times_and_noise_share_no_random_numbers(monkeypatch):
    steps = []

    def spied(draw):
        def drawn(*args, step, **options):
            steps.append(step)
            return draw(*args, step=step, **options)

        return drawn

    monkeypatch.setattr(strata, "rng", SimpleNamespace(uniform=spied(rng.uniform)))
    monkeypatch.setattr(likelihood, "normal", spied(likelihood.normal))
    diffusion = GaussianDiffusion(NoiseSchedule.cosine(12))
    likelihood.estimate_likelihood(diffusion, network_like, IMAGES, draws=3)
    assert len(steps) == len(set(steps)) == 1 + 5  # of the times, and of t = 1, three and T


def test_means_at_each_time():
    diffusion = GaussianDiffusion(NoiseSchedule.cosine(12))
    draws = likelihood.estimate_likelihood(diffusion, network_like, IMAGES, draws=2).clipped
    means = draws.at_each_time()
    np.testing.assert_array_equal(means.t, np.unique(draws.times))
    for t, images, mean, error in zip(*means, strict=True):
        bits = draws.nats[draws.times == t] / (12 * LN2)
        assert images == len(bits)
        assert mean == pytest.approx(bits.mean())
        if images > 1:
            assert error == pytest.approx(estimate(bits).standard_error)
        else:
            assert math.isnan(error)


@given(st.integers(1, 60), st.integers(1, 5))
def test_the_ledger_adds_up(T, draws):
    parts = ranges(T)
    assert [t for first, last in parts for t in range(first, last + 1)] == list(range(2, T + 1))
    diffusion = GaussianDiffusion(NoiseSchedule.cosine(T))
    found = ledger(
        likelihood.estimate_likelihood(diffusion, network_like, IMAGES[:3], draws=draws).clipped
    )
    sums = [found.reconstruction, found.prior, *(entry.bits_per_dim for entry in found.entries)]
    assert sum(part.mean for part in sums) == pytest.approx(found.bound.mean)


def test_entries_are_named_after_their_terms():
    diffusion = GaussianDiffusion(NoiseSchedule.cosine(30))
    found = likelihood.estimate_likelihood(diffusion, network_like, IMAGES)
    names = [entry.name for entry in ledger(found.clipped).entries]
    assert names == ["L_1", "L_2 .. L_4", "L_5 .. L_9", "L_10 .. L_19", "L_20 .. L_28", "L_29"]


def test_a_model_differs_from_itself_by_nothing_and_from_its_like_by_little():
    diffusion = GaussianDiffusion(NoiseSchedule.cosine(40))
    images = bytes_of(*range(256))

    def measure(variance, seed=0):
        model = oracle_of(diffusion, variance)
        return likelihood.estimate_likelihood(
            diffusion, model, images, draws=4, seed=seed, batch=256
        ).unclipped

    one, like, other_noise = measure(0.3), measure(0.31), measure(0.31, seed=1)
    assert compare(one, one).bound == (0.0, 0.0)
    paired, unpaired = compare(one, like), compare(one, other_noise)
    assert paired.bound.standard_error < 0.2 * unpaired.bound.standard_error
    assert paired.bound.mean == pytest.approx(one.bound().mean() - like.bound().mean())
    parts = paired.reconstruction.mean + paired.denoising.mean
    assert parts == pytest.approx(paired.bound.mean)


def test_the_interval_is_the_normal_one():
    found = estimate(np.array([1.0, 2.0, 3.0, 6.0]))
    assert found.mean == 3.0
    assert found.standard_error == pytest.approx(math.sqrt((4 + 1 + 0 + 9) / 3 / 4))
    low, high = found.interval
    assert (high - low) / 2 == pytest.approx(1.959964 * found.standard_error)
    with pytest.raises(errors.UsageError, match="at least 2"):
        estimate(np.array([1.0]))


@pytest.mark.parametrize("poison", [np.nan, np.inf])
def test_a_network_that_computes_no_numbers_is_named(poison):
    """Also where clipping would hide it: an x̂_0 of −∞ is held at −1."""
    diffusion = GaussianDiffusion(NoiseSchedule.cosine(8))
    broken = lambda xt, t: np.where(t.reshape(-1, 1, 1, 1) >= 3, poison, xt)  # noqa: E731
    with pytest.raises(errors.NonFiniteError, match="the first at t = 3"):
        likelihood.estimate_likelihood(diffusion, broken, IMAGES)
