"""Identities of what is minimised: its value at the start, its weights, its gradient.

Ho et al. 2020 (arXiv 2006.11239), eq. 14; Nichol & Dhariwal 2021 (arXiv 2102.09672), eq. 15–18.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from tinyddpm.arrays import Array
from tinyddpm.diffusion.bound import bound_term
from tinyddpm.diffusion.gaussian import GaussianDiffusion
from tinyddpm.diffusion.learned_variance import learned_log_variance
from tinyddpm.diffusion.losses import image_losses, image_losses_backward, loss
from tinyddpm.diffusion.timestep_sampling import SecondMomentTimes, TimeSampler, UniformTimes
from tinyddpm.identities.registry import Setting, identity
from tinyddpm.identities.statistics import (
    Comparison,
    chi2_test,
    exactly,
    frequency_test,
    relative_error,
    subgamma_test,
)
from tinyddpm.nn.config import UNetConfig
from tinyddpm.nn.embedding import network_time
from tinyddpm.nn.unet import UNet

_LAMBDA = 0.001  # of the hybrid, per bit/dim of the whole bound


@identity(
    "xiv",
    "the loss at the start",
    "ε_θ ≡ 0 before training, so N D L_simple = Σ ε² ~ χ²_{ND}",
    UNet.forward,
    loss,
    GaussianDiffusion.q_sample,
)
def loss_at_the_start(setting: Setting) -> Iterator[Comparison]:
    """Null: a new network predicts nothing, and its loss is χ² over its degrees of freedom."""
    config = UNetConfig(image_size=8, channels=(8, 16), attention_at=(4,), groups=4)
    network = UNet(config, setting.seed, dtype=np.float64)
    diffusion = GaussianDiffusion(setting.schedule)
    eps = replace(setting, samples=min(setting.samples, 256), shape=(8, 8, 1)).normal(0)
    t = np.arange(len(eps)) % diffusion.schedule.T + 1
    x0 = np.full_like(eps, setting.numbers(1, -1.0, 1.0)[0])
    xt = diffusion.q_sample(x0, t, eps)
    output, _ = network.forward(xt, network_time(t))
    yield exactly(float(np.max(np.abs(output))), 1e-15)
    mean_square, _ = loss(diffusion, output, x0, xt, eps, t)
    yield chi2_test(eps.size * float(mean_square), eps.size)


@identity(
    "xv",
    "weights of drawn times",
    "t ~ p:  E L_t/(T p_t) = (1/T) Σ_t L_t,   p = 1/T or p_t ∝ 0.999 √E[L_t²] + …",
    UniformTimes.draw,
    SecondMomentTimes.draw,
    SecondMomentTimes.update,
)
def weighted_loss_is_unbiased(setting: Setting) -> Iterator[Comparison]:
    """Null: t comes as often as p says, and weight × loss has the mean of the losses over all t.

    The losses differ by orders of magnitude, and the sampler has learnt others than these: no p
    makes the mean biased. Weight × loss lies between 0 and its largest value M.
    """
    T = 20
    losses = np.exp(setting.numbers(T + 1, -4.0, 3.0))
    learnt = SecondMomentTimes(T)
    for _ in range(10):
        learnt.update(np.arange(1, T + 1), np.sqrt(losses[1:]))
    share = np.sqrt(losses[1:]) / np.sqrt(losses[1:]).sum()
    samplers: list[tuple[TimeSampler, Array]] = [
        (UniformTimes(T), np.full(T, 1 / T)),
        (learnt, 0.999 * share + 0.001 / T),
    ]
    for sampler, p in samplers:
        drawn = sampler.draw(setting.seed, step=1, samples=np.arange(setting.samples))
        yield frequency_test(np.bincount(drawn.t, minlength=T + 2), np.array([0, *p, 0]))
        values = losses[1:] / (T * p)
        mean = float(losses[1:].mean())
        variance = float(p @ (values - mean) ** 2)
        sample = drawn.weights * losses[drawn.t % (T + 1)]
        yield subgamma_test(sample, mean, variance, float(values.max()) / 3)


@identity(
    "xvii",
    "the ends of the learned variance",
    "v = 1: σ_t² = β_t,   v = −1: σ_t² = β̃_t = 1/(1/(1 − ᾱ_{t−1}) + α_t/β_t), and β̃_2 at t = 1,   "
    "v = 0: √(β_t β̃_t)",
    GaussianDiffusion.p_mean_variance,
    learned_log_variance,
)
def ends_of_the_learned_variance(setting: Setting) -> Iterator[Comparison]:
    """The largest relative error over all t."""
    schedule = setting.schedule
    diffusion = GaussianDiffusion(schedule, variance="learned")
    xt, ones = setting.normal(0)[:2], np.ones_like(setting.normal(0)[:2])
    for t in range(1, schedule.T + 1):
        s = max(t, 2)
        bayes = 1 / (1 / schedule.one_minus_alpha_bar[s - 1] + schedule.alpha[s] / schedule.beta[s])
        beta = schedule.beta[t]
        for v, expected in ((1, beta), (-1, bayes), (0, math.sqrt(beta * bayes))):
            output = np.concatenate([xt, v * ones], axis=-1)
            back = diffusion.p_mean_variance(output, xt, t)
            yield exactly(relative_error(back.variance, np.array(expected)), 1e-12)
            yield exactly(relative_error(np.exp(back.log_variance), np.array(expected)), 1e-12)


@identity(
    "xviii",
    "the bound teaches the variance alone",
    "L_hybrid = L_simple + λ T L_{t−1}/(D ln 2);  ∂L_hybrid/∂ε_θ = ∂L_simple/∂ε_θ,   "
    "∂L_hybrid/∂v = λ ∂L_vlb/∂v",
    image_losses,
    image_losses_backward,
    bound_term,
)
def hybrid_gradient(setting: Setting) -> Iterator[Comparison]:
    """The gradient in the channels of ε and of v, and the unit of λ: bits/dim, summed over t."""
    schedule = setting.schedule
    fixed, learned = GaussianDiffusion(schedule), GaussianDiffusion(schedule, variance="learned")
    n, c = schedule.T, setting.shape[-1]
    t, eps = np.arange(1, n + 1), np.resize(setting.normal(0), (n, *setting.shape))
    x0 = np.repeat(setting.levels(), n, axis=0)
    xt = fixed.q_sample(x0, t, eps)
    output = np.concatenate([np.tanh(xt), np.sin(3 * xt)], axis=-1)
    simple, dsimple = loss(fixed, output[..., :c], x0, xt, eps, t, objective="simple")
    hybrid, dhybrid = loss(learned, output, x0, xt, eps, t, objective="hybrid")
    _, dvlb = loss(learned, output, x0, xt, eps, t, objective="vlb")
    yield exactly(relative_error(dhybrid[..., :c], dsimple), 1e-15)
    yield exactly(relative_error(dhybrid[..., c:], _LAMBDA * dvlb[..., c:]), 1e-12)
    nats, _ = bound_term(learned, output, x0, xt, t, clip=False)
    bits_per_dim = nats.sum() / (math.prod(setting.shape) * math.log(2))
    yield exactly(relative_error(hybrid - simple, _LAMBDA * bits_per_dim), 1e-9)
