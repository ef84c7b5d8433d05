"""Plots of the forward process: drawing from a Gaussian, densities on their way, schedules."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tinyddpm.diffusion.schedule import NoiseSchedule
from tinyddpm.figures.densities import kinds_density, normal_density
from tinyddpm.figures.style import BLUE, GREEN, GREY, INK, ORANGE, PALE, label, panels
from tinyddpm.ops.normal import cdf, inverse_cdf

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def inverse_cdf_plot() -> Figure:
    """Even slices of u, through Φ⁻¹, lie densely where the density is high."""
    figure, (curve, result) = panels(2)
    x = np.linspace(-3.4, 3.4, 400)
    curve.plot(x, cdf(x), color=BLUE)
    u = (np.arange(20) + 0.5) / 20
    at = inverse_cdf(u)
    curve.hlines(u, -3.4, at, color=GREY, linewidth=0.7)
    curve.vlines(at, 0, u, color=ORANGE, linewidth=0.9)
    curve.plot(at, np.zeros(20), "|", color=ORANGE, markersize=9, clip_on=False)
    curve.set(xlim=(-3.4, 3.4), ylim=(0, 1))
    curve.grid(visible=False)
    label(curve, title="twenty even u, read backwards through Φ", x=r"$x = \Phi^{-1}(u)$", y="u")
    many = inverse_cdf((np.arange(4000) + 0.5) / 4000)
    result.hist(many, bins=40, range=(-3.4, 3.4), density=True, color=ORANGE, alpha=0.45)
    result.plot(x, normal_density(x, 0.0, 1.0), color=BLUE)
    result.set(xlim=(-3.4, 3.4))
    label(result, title="4000 of them, and the density φ", x="x", y="density")
    return figure


def forward_densities() -> Figure:
    """A mixture of two Gaussians turning into one, under both schedules."""
    figure, axes = panels(2)
    x = np.linspace(-3, 3, 301)
    schedules = {"linear": NoiseSchedule.linear(), "cosine": NoiseSchedule.cosine()}
    for panel, (name, schedule) in zip(axes, schedules.items(), strict=True):
        times = np.arange(0, 1001, 4)
        density = np.stack([kinds_density(x, schedule.alpha_bar[t]) for t in times], axis=1)
        panel.imshow(
            density / density.max(axis=0),
            extent=(0, 1000, -3, 3),
            origin="lower",
            aspect="auto",
            cmap="Blues",
            interpolation="bilinear",
        )
        panel.plot([0, 1000], [1, 1], color=INK, linewidth=0.8, linestyle=":")
        panel.plot([0, 1000], [-1, -1], color=INK, linewidth=0.8, linestyle=":")
        panel.grid(visible=False)
        label(panel, title=f"density of $x_t$, {name} schedule", x="t", y="x")
    axes[1].text(985, 1.12, r"one σ of $\mathcal{N}(0, 1)$", ha="right", fontsize=8.5)
    return figure


def schedules() -> Figure:
    """β_t and ᾱ_t of the linear and the cosine schedule."""
    figure, (beta, alpha_bar) = panels(2)
    for name, schedule, colour in (
        ("linear", NoiseSchedule.linear(), BLUE),
        ("cosine", NoiseSchedule.cosine(), ORANGE),
    ):
        t = np.arange(schedule.T + 1)
        beta.plot(t[1:], schedule.beta[1:], color=colour, label=name)
        alpha_bar.plot(t, schedule.alpha_bar, color=colour, label=name)
        half = int(np.argmax(schedule.alpha_bar < 0.5))
        alpha_bar.plot([half], [schedule.alpha_bar[half]], "o", color=colour)
        alpha_bar.annotate(
            f"t = {half}",
            (half, schedule.alpha_bar[half]),
            xytext=(9, 5),
            textcoords="offset points",
            color=colour,
        )
    beta.set(yscale="log", ylim=(2e-5, 1.6), xlim=(0, 1000))
    alpha_bar.set(xlim=(0, 1000), ylim=(0, 1.02))
    alpha_bar.axhline(0.5, color=GREY, linewidth=0.8, linestyle=":")
    label(beta, title="noise added at step t", x="t", y=r"$\beta_t$")
    label(alpha_bar, title="variance of the image left at t", x="t", y=r"$\bar\alpha_t$")
    beta.legend(loc="upper left")
    alpha_bar.legend(loc="upper right")
    return figure


def log_snr() -> Figure:
    """log SNR of three schedules."""
    figure, (panel,) = panels(1, width=6.0)
    for name, schedule, colour in (
        ("linear", NoiseSchedule.linear(), BLUE),
        ("cosine", NoiseSchedule.cosine(), ORANGE),
        ("log-SNR linear", NoiseSchedule.log_snr_linear(1000), GREEN),
    ):
        t = np.arange(1, schedule.T + 1)
        panel.plot(t, schedule.log_snr[1:], color=colour, label=name)
    panel.axhline(0, color=GREY, linewidth=0.9)
    panel.fill_between([0, 1000], 0, -22, color=PALE, alpha=0.45, linewidth=0)
    panel.text(20, -6.5, "more noise than image", color=GREY)
    panel.text(985, 2.2, "more image than noise", color=GREY, ha="right")
    panel.set(xlim=(0, 1000), ylim=(-20, 14))
    label(
        panel,
        title="a schedule is a curve of log SNR",
        x="t",
        y=r"$\log\,\bar\alpha_t/(1-\bar\alpha_t)$",
    )
    panel.legend(loc="upper right")
    return figure
