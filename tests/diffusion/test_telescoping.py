"""The ratio of the joints is the sum of the divergences: on every path, and in the mean."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from montecarlo import consistent, mutated, seed_of, subgamma_test

from tinyddpm.diffusion import bound, kl, telescoping
from tinyddpm.diffusion.decoder import LEVELS
from tinyddpm.diffusion.gaussian import GaussianDiffusion
from tinyddpm.diffusion.schedule import NoiseSchedule

BETAS = st.lists(st.floats(5e-3, 0.8), min_size=1, max_size=6)
VARIANCES = st.sampled_from(["beta", "beta_tilde", "learned"])
IMAGES = LEVELS[np.random.default_rng(0).integers(0, 256, (5, 2, 2, 1))]


def bounded_model(variance):
    """Foresees an image within [−1, 1]."""

    def model(xt, t):
        x0_hat = np.tanh(xt - 0.1 * t.reshape(-1, 1, 1, 1))
        return np.concatenate([x0_hat, x0_hat], axis=-1) if variance == "learned" else x0_hat

    return model


@given(BETAS, VARIANCES, st.integers(0, 2**32 - 1))
def test_before_and_after_are_one_number_on_every_path(beta, variance, seed):
    diffusion = GaussianDiffusion(NoiseSchedule.from_beta(beta), "x0", variance)
    model = bounded_model(variance)
    path = telescoping.forward_path(diffusion, IMAGES, seed=seed)
    assert len(path) == len(beta) + 1
    before = telescoping.log_ratio_before(diffusion, model, path)
    after = telescoping.log_ratio_after(diffusion, model, path)
    np.testing.assert_allclose(before, after, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("range(2, schedule.T + 1)", "range(1 + 2, schedule.T + 1)"),
        ("marginal - _log_normal(path[-1], 0.0, 0.0)", "-_log_normal(path[-1], 0.0, 0.0)"),
        ("math.log(schedule.beta_tilde[t])", "math.log(schedule.beta[t])"),
        ("return log_ratio - _log_reverse(diffusion, model, path, 1)", "return log_ratio"),
        ("forward - _log_reverse", "forward + _log_reverse"),
    ],
)
def test_another_sum_is_not_that_number(right, wrong):
    diffusion = GaussianDiffusion(NoiseSchedule.from_beta([0.02, 0.1, 0.3]), "x0")
    module, model = mutated(telescoping, right, wrong), bounded_model("beta")
    path = telescoping.forward_path(diffusion, IMAGES)
    before = module.log_ratio_before(diffusion, model, path)
    after = module.log_ratio_after(diffusion, model, path)
    assert np.all(np.abs(before - after) > 1e-3)


COPIES = 20_000


def ratio_against_terms(terms, diffusion, seed):
    """Null: log q/p of a path has the mean of L_T + Σ L_{t−1}, these taken at the path's own x_t.

    Path by path the difference is a sum of a (z² − 1) + b z, one for each t ≥ 2 and pixel, and one
    for x_T: z is standard normal given the later x, a is fixed, and b² is at most b_max², for the
    foreseen image is within [−1, 1] as the image is. So its logarithmic moment generating function
    is at most ½ θ² v/(1 − c|θ|), v = Σ 2a² + b_max², c = 2 max |a| (one step after the other).
    """
    schedule, model = diffusion.schedule, bounded_model(diffusion.variance)
    x0 = np.broadcast_to(LEVELS[[0, 250, 20, 255]].reshape(1, 2, 2, 1), (COPIES, 2, 2, 1))
    path = telescoping.forward_path(diffusion, x0, seed=seed)
    total = terms.prior_term(diffusion, x0)
    for t in range(1, schedule.T + 1):
        output = model(path[t], np.full(COPIES, t))
        total = total + terms.bound_term(diffusion, output, x0, path[t], t, clip=False)[0]
    noise = schedule.one_minus_alpha_bar[-1]
    a, b2 = [0.5 * (noise - 1)], [noise * schedule.alpha_bar[-1]]
    for t in range(2, schedule.T + 1):
        true, model_variance = schedule.beta_tilde[t], getattr(schedule, diffusion.variance)[t]
        a.append(0.5 * (true / model_variance - 1))
        b2.append(true * (2 * diffusion.posterior_from_x0[t] / model_variance) ** 2)
    variance = x0[0].size * sum(2 * a_t**2 + b2_t for a_t, b2_t in zip(a, b2, strict=True))
    difference = telescoping.log_ratio_before(diffusion, model, path) - total
    return subgamma_test(difference, 0.0, variance, 2 * max(abs(a_t) for a_t in a))


@given(
    st.lists(st.floats(5e-2, 0.6), min_size=2, max_size=4), st.sampled_from(["beta", "beta_tilde"])
)
def test_the_mean_of_the_ratio_is_the_bound(beta, variance):
    diffusion = GaussianDiffusion(NoiseSchedule.from_beta(beta), "x0", variance)
    assert consistent(ratio_against_terms(bound, diffusion, seed_of("ratio", beta, variance)))


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("nats = per_image_sum(normal_kl(*kl))", "nats = 0.5 * per_image_sum(normal_kl(*kl))"),
        ("NormalKlSaved(from_x0 * x0, log", "NormalKlSaved(0 * x0, log"),
        ("per_image(diffusion.log_variance_ends[0]", "per_image(diffusion.log_variance_ends[1]"),
        ("nats[rows] = -per_image_sum", "nats[rows] = per_image_sum"),
        ("math.sqrt(schedule.alpha_bar[-1])", "math.sqrt(schedule.alpha_bar[0])"),
        ("np.flatnonzero(times == 1)", "np.flatnonzero(times == 2)"),
        ("xp_of(x0).asarray(log_variance)", "xp_of(x0).asarray(0 * log_variance)"),
    ],
)
def test_another_bound_is_rejected(right, wrong):
    diffusion = GaussianDiffusion(NoiseSchedule.from_beta([0.1, 0.2, 0.3]), "x0", "beta")
    module = mutated(bound, right, wrong)
    assert not consistent(ratio_against_terms(module, diffusion, 0))


def test_the_divergence_the_wrong_way_round_is_rejected():
    diffusion = GaussianDiffusion(NoiseSchedule.from_beta([0.1, 0.2, 0.3]), "x0", "beta")
    module = mutated(bound, "normal_kl(*kl)", "normal_kl(kl[2], kl[3], kl[0], kl[1])")
    assert kl.normal_kl is module.normal_kl
    assert not consistent(ratio_against_terms(module, diffusion, 0))
