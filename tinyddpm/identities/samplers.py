"""Identities of the way back: what the samplers make, and which of them are the same.

Ho et al. 2020 (arXiv 2006.11239), algorithm 2; Song et al. 2021 (arXiv 2010.02502), eq. 12 and 16;
Nichol & Dhariwal 2021 (arXiv 2102.09672), eq. 19.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from tinyddpm.arrays import Array, IntArray
from tinyddpm.diffusion.ddim import ddim_steps
from tinyddpm.diffusion.gaussian import GaussianDiffusion, Variance
from tinyddpm.diffusion.oracles import GaussianOracle
from tinyddpm.diffusion.respacing import respaced_schedule, strided_timesteps
from tinyddpm.diffusion.sampling import sample, sample_steps
from tinyddpm.diffusion.schedule import NoiseSchedule
from tinyddpm.identities.registry import FIXED_VARIANCES, Setting, identity
from tinyddpm.identities.statistics import Comparison, exactly, gaussian_test, relative_error


def wild_model(xt: Array, t: IntArray) -> Array:
    """Predict noise that is wrong enough for x̂_0 to leave [−1, 1]."""
    eps_hat: Array = np.sin(2 * xt) + 0.1 * t.reshape(-1, *(1,) * (xt.ndim - 1))
    return eps_hat


@identity(
    "xvi",
    "the last step has no noise",
    "x_0 = μ_θ(x_1, 1) whatever the seed:  z = 0 at t = 1",
    sample_steps,
    ddim_steps,
)
def last_step_has_no_noise(setting: Setting) -> Iterator[Comparison]:
    """x_0 of either sampler against the mean of p(x_0 | x_1)."""
    shape = (min(setting.samples, 100), *setting.shape)
    for kind in FIXED_VARIANCES:
        diffusion = GaussianDiffusion(setting.schedule, variance=kind)
        for steps in (
            sample_steps(diffusion, wild_model, shape, seed=setting.seed, dtype=np.float64),
            ddim_steps(diffusion, wild_model, shape, seed=setting.seed, eta=1.0, dtype=np.float64),
        ):
            *_, before, last = steps
            output = wild_model(before.x, np.full(len(before.x), 1))
            mean = diffusion.p_mean_variance(output, before.x, 1).mean
            yield exactly(relative_error(last.x, mean), 1e-12)


@identity(
    "xix",
    "oracle in, law of the data out",
    "x_0 ~ 𝒩(m, s²), ε* = √(1 − ᾱ_t) (x_t − √ᾱ_t m)/(ᾱ_t s² + 1 − ᾱ_t):  the sampler's x_0 is "
    "𝒩(m_0, s_0²), from m_T = 0, s_T² = 1 by x_{t−1} = (x_t − β_t/√(1 − ᾱ_t) ε*)/√α_t + σ_t z",
    sample,
    GaussianOracle.__call__,
    GaussianDiffusion.p_mean_variance,
)
def samples_have_the_law_of_the_chain(setting: Setting) -> Iterator[Comparison]:
    """Null: the pixels of the samples are independent draws from the law of the chain."""
    schedule, shape = setting.schedule, (setting.samples, *setting.shape)
    mean, spread = (float(value) for value in setting.numbers(2, 0.1, 0.9))
    oracle = GaussianOracle(schedule, mean, spread)
    for kind in FIXED_VARIANCES:
        diffusion = GaussianDiffusion(schedule, variance=kind)
        x = sample(
            diffusion, oracle, shape, seed=setting.seed, clip=False, stream="noise", dtype=float
        )
        yield from gaussian_test(x, *_sampled_moments(setting.beta, kind, mean, spread))


def _sampled_moments(
    betas: tuple[float, ...], kind: Variance, mean: float, spread: float
) -> tuple[float, float]:
    """The mean and variance of x_0 by algorithm 2 in its own form, without μ̃ and x̂_0."""
    alpha_bars = np.cumprod(1 - np.array([0.0, *betas]))
    m, s2 = 0.0, 1.0
    for t in range(len(betas), 0, -1):
        beta, alpha_bar = betas[t - 1], float(alpha_bars[t])
        v = alpha_bar * spread + 1 - alpha_bar
        slope = (1 - beta / v) / math.sqrt(1 - beta)
        shift = beta * math.sqrt(alpha_bar) * mean / (v * math.sqrt(1 - beta))
        beta_tilde = beta * (1 - float(alpha_bars[t - 1])) / (1 - alpha_bar)
        sigma2 = beta if kind == "beta" else beta_tilde
        m, s2 = slope * m + shift, slope**2 * s2 + (sigma2 if t > 1 else 0.0)
    return m, s2


@identity(
    "xx",
    "DDIM with η = 1 is ancestral sampling",
    "√ᾱ_{t−1} x̂_0 + √(1 − ᾱ_{t−1} − β̃_t) ε̂ + √β̃_t z = μ̃_t(x_t, x̂_0) + √β̃_t z",
    ddim_steps,
    sample_steps,
)
def ddim_is_ancestral(setting: Setting) -> Iterator[Comparison]:
    """The largest relative error at each step, from the same noise, with and without clipping."""
    diffusion = GaussianDiffusion(setting.schedule, variance="beta_tilde")
    shape, seed = (min(setting.samples, 100), *setting.shape), setting.seed
    for clip in (False, True):
        ancestral = sample_steps(
            diffusion, wild_model, shape, seed=seed, clip=clip, dtype=np.float64
        )
        implicit = ddim_steps(
            diffusion, wild_model, shape, seed=seed, clip=clip, eta=1.0, dtype=np.float64
        )
        for one, other in zip(ancestral, implicit, strict=True):
            yield exactly(relative_error(other.x, one.x), 1e-9)


@identity(
    "xxi",
    "the shorter chain is part of the longer",
    "β_k = 1 − ᾱ_{S_k}/ᾱ_{S_{k−1}}:  ∏_{j≤k} (1 − β_j) = ᾱ_{S_k}, and the model is given S_k",
    respaced_schedule,
    strided_timesteps,
    GaussianDiffusion.respace,
    sample_steps,
)
def respaced_chain_is_part_of_the_whole(setting: Setting) -> Iterator[Comparison]:
    """The largest relative error of ᾱ, and of the times that the model is given; and by how much
    more than a half, which is rounding, the times differ from even ones.
    """
    for schedule in (setting.schedule, NoiseSchedule.linear(), NoiseSchedule.cosine()):
        T = schedule.T
        for steps in {2, T // 2, T - 1}:
            short = GaussianDiffusion(schedule).respace(steps)
            kept = short.timesteps
            uneven = np.abs(kept[1:] - np.linspace(1, T, steps))
            yield exactly(abs(int(kept[0])) + max(float(np.max(uneven)) - 0.5, 0.0), 1e-9)
            found, expected = np.cumprod(1 - short.schedule.beta), schedule.alpha_bar[kept]
            yield exactly(relative_error(found, expected), 1e-12)
            ratio = short.schedule.one_minus_alpha_bar[1:] / schedule.one_minus_alpha_bar[kept[1:]]
            yield exactly(float(np.max(np.abs(ratio - 1))), 1e-9)
            if T < 100:  # longer chains take their time
                yield exactly(relative_error(_times_given(short), kept[:0:-1]), 1e-15)


def _times_given(diffusion: GaussianDiffusion) -> IntArray:
    """The times that a model is given along the way back."""
    given = []

    def model(xt: Array, t: IntArray) -> Array:
        given.append(int(t[0]))
        return np.zeros_like(xt)

    sample(diffusion, model, (1, 1, 1, 1))
    return np.array(given)
