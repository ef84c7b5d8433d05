"""Identities of the likelihood: from the ratio of the two chains to a sum of squared errors.

Ho et al. 2020 (arXiv 2006.11239), eq. 3, 5 and 12, and appendix A.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from tinyddpm.arrays import Array, IntArray
from tinyddpm.diffusion.affine_chain import AffineChain, affine_chain
from tinyddpm.diffusion.bound import bound_term, eps_weights, prior_term, snr_weights
from tinyddpm.diffusion.gaussian import GaussianDiffusion
from tinyddpm.diffusion.kl import normal_kl
from tinyddpm.diffusion.oracles import GaussianOracle
from tinyddpm.diffusion.schedule import NoiseSchedule
from tinyddpm.diffusion.telescoping import forward_path, log_ratio_after, log_ratio_before
from tinyddpm.identities.registry import FIXED_VARIANCES, Setting, identity
from tinyddpm.identities.statistics import (
    Comparison,
    exactly,
    relative_error,
    subgamma_test,
)


def bounded_model(xt: Array, t: IntArray) -> Array:
    """Foresee an image within [−1, 1]: not a good one, and another one at each time."""
    x0_hat: Array = np.tanh(xt - 0.1 * t.reshape(-1, *(1,) * (xt.ndim - 1)))
    return x0_hat


@identity(
    "viii",
    "telescoping",
    "log q(x_{1:T} | x_0)/p(x_{0:T}) is one number before and after Bayes, with the mean "
    "L_0 + … + L_T",
    log_ratio_before,
    log_ratio_after,
    bound_term,
    prior_term,
)
def ratio_has_the_mean_of_the_terms(setting: Setting) -> Iterator[Comparison]:
    """Null: log q/p of a path has the mean of L_T + Σ L_{t−1}, these taken at the path's own x_t.

    Path by path the difference is a sum of a (z² − 1) + b z, one for each t ≥ 2 and pixel, and one
    for x_T: z is standard normal given the later x, a is fixed, and b² is at most b_max², because
    image and foreseen image lie within [−1, 1]. So its logarithmic moment generating function is at
    most ½ θ² v/(1 − c|θ|), v = Σ 2a² + b_max², c = 2 max |a| (one step after the other).
    """
    x0 = np.broadcast_to(setting.levels(), (setting.samples, *setting.shape))
    for kind in FIXED_VARIANCES:
        diffusion = GaussianDiffusion(setting.schedule, "x0", kind)
        schedule = diffusion.schedule
        path = forward_path(diffusion, x0, seed=setting.seed, stream="noise")
        before = log_ratio_before(diffusion, bounded_model, path)
        yield exactly(relative_error(log_ratio_after(diffusion, bounded_model, path), before), 1e-9)
        terms = prior_term(diffusion, x0)
        for t in range(1, schedule.T + 1):
            output = bounded_model(path[t], np.full(len(x0), t))
            terms = terms + bound_term(diffusion, output, x0, path[t], t, clip=False)[0]
        noise, true = schedule.one_minus_alpha_bar[-1], schedule.beta_tilde[2:]
        model = getattr(schedule, kind)[2:]
        a = 0.5 * np.array([noise - 1, *(true / model - 1)])
        from_x0 = diffusion.posterior_from_x0[2:]
        b2 = [noise * schedule.alpha_bar[-1], *true * (2 * from_x0 / model) ** 2]
        variance = x0[0].size * float((2 * a**2 + b2).sum())
        yield subgamma_test(before - terms, 0.0, variance, 2 * float(np.abs(a).max()))


@identity(
    "ix",
    "Jensen: the bound is below",
    "−(L_0 + … + L_T) ≤ log p(x_0), with equality for x_0 ~ 𝒩(0, I), ε* = √(1 − ᾱ_t) x_t, σ² = β",
    AffineChain.log_likelihood,
    AffineChain.bound_terms,
    GaussianOracle.__call__,
)
def the_bound_is_below(setting: Setting) -> Iterator[Comparison]:
    """How far −(L_0 + … + L_T) exceeds log p(x_0), which it must not; and how far the two differ
    if each step back is the true one.

    With σ² = β and the true ε* each step is the true one, except the last. Its variance is β̃_2
    here, and is set to the true one, β_1.
    """
    schedule, shape = setting.schedule, setting.shape
    x0 = 1.5 * setting.normal(0)[:100]
    mean, spread = setting.numbers(2, 0.1, 1.0)
    for kind in FIXED_VARIANCES:
        diffusion = GaussianDiffusion(schedule, variance=kind)
        chain = affine_chain(diffusion, GaussianOracle(schedule, mean, spread), shape)
        gap = chain.log_likelihood(x0) + chain.bound_terms(x0).sum(axis=0)
        yield exactly(float(np.max(np.maximum(-gap, 0) / np.abs(chain.log_likelihood(x0)))), 1e-9)
    diffusion = GaussianDiffusion(schedule, variance="beta")
    chain = affine_chain(diffusion, GaussianOracle(schedule, 0.0, 1.0), shape)
    beta = np.broadcast_to(schedule.beta.reshape(-1, 1, 1, 1), chain.variance.shape)
    chain = replace(chain, variance=beta)
    log_p = -0.5 * (x0**2 + np.log(2 * np.pi)).reshape(len(x0), -1).sum(axis=1)
    yield exactly(relative_error(chain.log_likelihood(x0), log_p), 1e-9)
    yield exactly(relative_error(-chain.bound_terms(x0).sum(axis=0), log_p), 1e-9)


@identity(
    "x",
    "a term is a weighted square",
    "L_{t−1} = w_t ‖ε − ε_θ‖² + ½ D (β̃_t/σ_t² − 1 − ln β̃_t/σ_t²),   "
    "w_t = β_t²/(2 σ_t² α_t (1 − ᾱ_t)),   t ≥ 2",
    eps_weights,
    bound_term,
    normal_kl,
    GaussianDiffusion.p_mean_variance,
    GaussianDiffusion.q_posterior,
)
def term_is_a_weighted_square(setting: Setting) -> Iterator[Comparison]:
    """From the bound, and from the divergence of q_posterior and p_mean_variance themselves."""
    eps, x0 = setting.normal(0)[:50], setting.normal(1)[:50]
    for kind in FIXED_VARIANCES:
        diffusion = GaussianDiffusion(setting.schedule, variance=kind)
        variance = np.maximum(getattr(diffusion.schedule, kind), 1e-300)
        weights = eps_weights(diffusion.schedule, variance)
        for t in range(2, diffusion.schedule.T + 1):
            xt = diffusion.q_sample(x0, t, eps)
            output = np.tanh(xt) + 0.1 * t
            ratio = diffusion.schedule.beta_tilde[t] / variance[t]
            square = weights[t] * (eps - output) ** 2 + 0.5 * (ratio - 1 - np.log(ratio))
            expected = square.reshape(len(x0), -1).sum(axis=1)
            found, _ = bound_term(diffusion, output, x0, xt, t, clip=False)
            yield exactly(relative_error(found, expected), 1e-9)
            mean, spread = diffusion.q_posterior(x0, xt, t)
            back = diffusion.p_mean_variance(output, xt, t, clip=False)
            divergence = normal_kl(mean, np.log(spread), back.mean, back.log_variance)
            yield exactly(relative_error(divergence, square), 1e-9)


@identity(
    "xi",
    "weights are drops of the SNR",
    "w_t SNR_t = ½ (SNR_{t−1} − SNR_t)   for σ_t² = β̃_t, t ≥ 2",
    eps_weights,
    snr_weights,
    NoiseSchedule.linear,
    NoiseSchedule.cosine,
)
def weights_are_drops_of_the_snr(setting: Setting) -> Iterator[Comparison]:
    """The largest relative error over all t, also of the published schedules."""
    for schedule in (setting.schedule, NoiseSchedule.linear(), NoiseSchedule.cosine()):
        variance = np.maximum(schedule.beta_tilde, 1e-300)  # at t = 1, which is left out
        found = eps_weights(schedule, variance)[2:] * schedule.snr[2:]
        drops = snr_weights(schedule)[2:]
        yield exactly(float(np.max(np.abs(found / drops - 1))), 1e-9)
