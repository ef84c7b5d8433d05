"""Identities of the forward chain: what its steps make, where it ends, and how it is undone.

q(x_t | x_{t−1})  x_t = √(1 − β_t) x_{t−1} + √β_t ε          Ho et al. 2020, arXiv 2006.11239,
q(x_t | x_0)      x_t = √ᾱ_t x_0 + √(1 − ᾱ_t) ε              eq. 2, 4, 6 and 7
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from tinyddpm.diffusion.bound import prior_term
from tinyddpm.diffusion.gaussian import GaussianDiffusion
from tinyddpm.diffusion.schedule import NoiseSchedule
from tinyddpm.diffusion.telescoping import forward_path
from tinyddpm.identities.registry import Setting, identity
from tinyddpm.identities.statistics import (
    Comparison,
    gaussian_test,
    ks_test,
    regression_test,
    subgamma_test,
)
from tinyddpm.ops import normal

_ONE, _ZERO = np.ones((1, 1, 1, 1)), np.zeros((1, 1, 1, 1))


@identity(
    "ii",
    "two Gaussians merge into one",
    "√(α_2 β_1) ε_1 + √β_2 ε_2 ~ 𝒩(0, 1 − ᾱ_2),   1 − ᾱ_2 = α_2 β_1 + β_2",
    GaussianDiffusion.q_step,
    NoiseSchedule.from_beta,
)
def variances_add(setting: Setting) -> Iterator[Comparison]:
    """Null: two steps from zero have the sum of the variances, which is 1 − ᾱ_2."""
    diffusion = GaussianDiffusion(setting.schedule)
    x = np.zeros((setting.samples, *setting.shape))
    for t in (1, 2):
        x = diffusion.q_step(x, t, setting.normal(t))
    beta1, beta2 = setting.beta[:2]
    yield from gaussian_test(x, 0.0, (1 - beta2) * beta1 + beta2)
    yield from gaussian_test(x, 0.0, float(diffusion.schedule.one_minus_alpha_bar[2]))


@identity(
    "iii",
    "t steps in one",
    "t steps of q(x_t | x_{t−1}) make q(x_t | x_0) = 𝒩(√ᾱ_t x_0, (1 − ᾱ_t) I); "
    "cosine: ᾱ_t = f(t)/f(0), f(t) = cos²((t/T + s)/(1 + s) π/2)",
    GaussianDiffusion.q_step,
    GaussianDiffusion.q_sample,
    NoiseSchedule.from_beta,
    NoiseSchedule.cosine,
)
def chain_makes_the_closed_form(setting: Setting) -> Iterator[Comparison]:
    """Null: x_t of the chain begun at a constant x_0 is what q_sample says, at each t.

    q_sample of (x_0, 0) is its mean, and the square of q_sample of (0, 1) its variance.
    """
    diffusion = GaussianDiffusion(setting.schedule)
    level = float(setting.numbers(1, -1.0, 1.0)[0])
    path = forward_path(
        diffusion,
        np.full((setting.samples, *setting.shape), level),
        seed=setting.seed,
        stream="noise",
    )
    for t in range(1, diffusion.schedule.T + 1):
        mean = float(diffusion.q_sample(level * _ONE, t, _ZERO).item())
        std = float(diffusion.q_sample(_ZERO, t, _ONE).item())
        yield from gaussian_test(path[t], mean, std**2)
    yield from _cosine_chain(setting, level)


def _cosine_chain(setting: Setting, level: float) -> Iterator[Comparison]:
    """Null: at a quarter, a half and three quarters of the way x_t is what f says."""
    T, s = 1000, 0.008
    diffusion = GaussianDiffusion(NoiseSchedule.cosine(T, s))
    x0 = np.full((setting.samples, *setting.shape), level)
    start = math.cos(s / (1 + s) * math.pi / 2) ** 2
    for t in (T // 4, T // 2, 3 * T // 4):
        alpha_bar = math.cos((t / T + s) / (1 + s) * math.pi / 2) ** 2 / start
        xt = diffusion.q_sample(x0, t, setting.normal(t))
        yield from gaussian_test(xt, math.sqrt(alpha_bar) * level, 1 - alpha_bar)


@identity(
    "iv",
    "the chain is Markov",
    "x_{t+1} = √α_{t+1} x_t + 0 x_{t−1} + √β_{t+1} ε, yet x_{t+1} depends on x_{t−1} alone: "
    "√(α_t α_{t+1}) x_{t−1} + …",
    GaussianDiffusion.q_step,
)
def given_the_present_the_past_adds_nothing(setting: Setting) -> Iterator[Comparison]:
    """Null: the regression of x_{t+1} on x_t and x_{t−1}, and that on x_{t−1} alone.

    x_0 ~ 𝒩(0, I), so that all of them are jointly Gaussian with variance 1.
    """
    diffusion = GaussianDiffusion(setting.schedule)
    path = forward_path(diffusion, setting.normal(0), seed=setting.seed, stream="noise")
    alpha = 1 - np.array([0.0, *setting.beta])
    for t in range(1, len(setting.beta)):
        after, present, past = path[t + 1], path[t], path[t - 1]
        yield from regression_test(
            after, [present, past], [math.sqrt(alpha[t + 1]), 0.0], 1 - alpha[t + 1]
        )
        both = float(alpha[t] * alpha[t + 1])
        yield from regression_test(after, [past], [math.sqrt(both)], 1 - both)


@identity(
    "v",
    "posterior by least squares",
    "x_{t−1} = √ᾱ_{t−1} β_t/(1 − ᾱ_t) x_0 + √α_t (1 − ᾱ_{t−1})/(1 − ᾱ_t) x_t + √β̃_t ε",
    GaussianDiffusion.q_posterior,
    GaussianDiffusion.q_step,
)
def posterior_is_a_regression(setting: Setting) -> Iterator[Comparison]:
    """Null: x_{t−1} = c₀ x_0 + c_t x_t + 𝒩(0, β̃_t), with c₀, c_t and β̃_t as q_posterior says."""
    diffusion = GaussianDiffusion(setting.schedule)
    path = forward_path(diffusion, setting.normal(0), seed=setting.seed, stream="noise")
    for t in range(2, len(path)):
        from_x0, variance = diffusion.q_posterior(_ONE, _ZERO, t)
        from_xt, _ = diffusion.q_posterior(_ZERO, _ONE, t)
        weights = [float(from_x0.item()), float(from_xt.item())]
        yield from regression_test(path[t - 1], [path[0], path[t]], weights, float(variance.item()))


@identity(
    "vii",
    "the end is noise",
    "L_T = KL(q(x_T | x_0) ‖ 𝒩(0, I)) = E log q(x_T | x_0)/𝒩(x_T; 0, I), and less than 5·10⁻⁵ nats "
    "a pixel for linear and cosine schedules of T ≥ 25",
    prior_term,
    GaussianDiffusion.q_sample,
    NoiseSchedule.linear,
    NoiseSchedule.cosine,
)
def the_end_is_noise(setting: Setting) -> Iterator[Comparison]:
    """Null: the mean of the log-ratio is L_T; and x_T of a named schedule is nearly 𝒩(0, 1).

    By Pinsker's inequality a divergence of L_T moves a distribution function by at most √(L_T/2).
    """
    for T in (1, 2, len(setting.beta)):
        yield _end_of(replace(setting, beta=setting.beta[:T]))
    shape = (setting.samples, *setting.shape)
    for schedule in _named(setting):
        diffusion = GaussianDiffusion(schedule)
        ends = diffusion.q_sample(np.ones(shape), schedule.T, setting.normal(0))
        yield ks_test(ends, normal.cdf, slack=math.sqrt(5e-5 / 2))


def _end_of(setting: Setting) -> Comparison:
    """The mean of the log-ratio at the end of the chain against L_T.

    With x_T = s x_0 + σ z the log-ratio is Σ a z² + b z + const over the pixels, a = ½ (σ² − 1) and
    b = σ s x_0; see the identity of the divergence.
    """
    diffusion, x0 = GaussianDiffusion(setting.schedule), setting.levels()
    alpha_bar = float(np.prod(1 - np.array(setting.beta)))
    noise = 1 - alpha_bar
    batch = np.broadcast_to(x0, (setting.samples, *setting.shape))
    xt = diffusion.q_sample(batch, len(setting.beta), setting.normal(0))
    log_ratio = 0.5 * (xt**2 - (xt - math.sqrt(alpha_bar) * x0) ** 2 / noise - math.log(noise))
    found = log_ratio.reshape(setting.samples, -1).sum(axis=1)
    variance = 0.5 * alpha_bar**2 * x0.size + noise * alpha_bar * float((x0**2).sum())
    return subgamma_test(found, float(prior_term(diffusion, x0)[0]), variance, alpha_bar)


def _named(setting: Setting) -> Iterator[NoiseSchedule]:
    for T in (25, 100, 300, 1000, int(setting.numbers(1, 25, 2000)[0])):
        yield NoiseSchedule.linear(T)
        yield NoiseSchedule.cosine(T)
