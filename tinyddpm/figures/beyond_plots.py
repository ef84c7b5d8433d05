"""Plots beyond the lecture: drawing t, DDIM's paths, guidance."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from tinyddpm.diffusion.affine_chain import affine_chain
from tinyddpm.diffusion.decoder import HALF_BIN
from tinyddpm.diffusion.gaussian import GaussianDiffusion
from tinyddpm.diffusion.oracles import GaussianOracle, MixtureOracle
from tinyddpm.diffusion.schedule import NoiseSchedule
from tinyddpm.diffusion.timestep_sampling import SecondMomentTimes
from tinyddpm.figures.densities import KINDS, kinds_density, noised_density
from tinyddpm.figures.style import BLUE, GREY, ORANGE, PURPLE, label, panels

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def time_probabilities() -> Figure:
    """p_t where the losses are the terms of a Gaussian's bound, beside the even 1/T."""
    figure, (panel,) = panels(1, width=6.0)
    schedule = NoiseSchedule.cosine()
    chain = affine_chain(
        GaussianDiffusion(schedule, variance="beta"), GaussianOracle(schedule, 0.0, 0.25), (1, 1, 1)
    )
    terms = chain.bound_terms(np.full((1, 1, 1, 1), 0.5))[:-1, 0]
    terms[0] -= math.log(2.0 * HALF_BIN)  # from a density to the probability of a byte
    sampler = SecondMomentTimes(schedule.T)
    for _ in range(10):
        sampler.update(np.arange(1, schedule.T + 1), terms)
    t = np.arange(1, schedule.T + 1)
    panel.plot(t, sampler.probabilities[1:], color=BLUE, label=r"$p_t \propto \sqrt{E[L_t^2]}$")
    panel.axhline(1 / schedule.T, color=GREY, linestyle="--", linewidth=1.2, label="1/T")
    panel.set(xscale="log", yscale="log", xlim=(1, 1000))
    label(panel, title="how often t is drawn", x="t", y=r"$p_t$")
    panel.legend(loc="upper right")
    return figure


def ddim_paths() -> Figure:
    """From the same x_T to data of two kinds: with DDIM's steps, and with ancestral ones."""
    figure, axes = panels(2)
    schedule = NoiseSchedule.cosine()
    weights, means, variances = np.array(KINDS).T
    oracle = MixtureOracle(schedule, weights, means.reshape(2, 1, 1, 1), variances)
    chain = GaussianDiffusion(schedule, variance="beta_tilde").respace(250)
    x_T = np.linspace(-1.9, 1.9, 13).reshape(-1, 1, 1, 1)
    for panel, eta, title in zip(
        axes, (0.0, 1.0), ("η = 0: no noise, smooth", "η = 1: ancestral"), strict=True
    ):
        path = [x_T.ravel()]
        path += [
            step.x.ravel()
            for step in chain.ddim_steps_from(oracle, x_T, seed=4, eta=eta, clip=False)
        ]
        lines = np.stack(path)
        for one in lines.T:
            colour = ORANGE if one[-1] > 0.0 else BLUE
            panel.plot(chain.timesteps[::-1], one, color=colour, linewidth=1.1, alpha=0.85)
        panel.set(xlim=(1000, 0), ylim=(-2.6, 2.6))
        label(panel, title=title, x="t")
    axes[0].set_ylabel(r"$x_t$")
    return figure


def guidance() -> Figure:
    """The density that guidance draws from, for several w, at one t."""
    figure, (panel,) = panels(1, width=6.4, height=3.7)
    x = np.linspace(-1.8, 2.2, 600)
    alpha_bar = NoiseSchedule.cosine().alpha_bar[300]
    both = kinds_density(x, alpha_bar)
    alone = noised_density(x, *KINDS[1][1:], alpha_bar)
    for weight, colour in zip((-1.0, 0.0, 1.0, 3.0), (GREY, BLUE, PURPLE, ORANGE), strict=True):
        log_q = (1 + weight) * np.log(alone) - weight * np.log(both)
        q = np.exp(log_q - log_q.max())
        name = {-1.0: "w = −1: all classes", 0.0: "w = 0: the class"}.get(weight, f"w = {weight:g}")
        panel.plot(x, q / (q.sum() * (x[1] - x[0])), color=colour, label=name)
    panel.set(xlim=(-1.8, 2.2), ylim=(0, None))
    label(
        panel,
        title="guidance sharpens, and moves away from the rest",
        x=r"$x_t$ at t = 300",
        y=r"$q(x_t|c)^{1+w}\,q(x_t)^{-w}$",
    )
    panel.legend(loc="upper left")
    return figure
