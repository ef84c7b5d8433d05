"""Plots of the bound: Jensen's chord, the decoder, the posterior, variances, weights, terms."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from tinyddpm.diffusion.affine_chain import affine_chain
from tinyddpm.diffusion.bound import eps_weights
from tinyddpm.diffusion.decoder import HALF_BIN, LEVELS
from tinyddpm.diffusion.gaussian import GaussianDiffusion
from tinyddpm.diffusion.oracles import GaussianOracle
from tinyddpm.diffusion.schedule import NoiseSchedule
from tinyddpm.figures.densities import normal_density
from tinyddpm.figures.style import BLUE, GREEN, GREY, INK, ORANGE, PALE, RED, label, panels

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def jensen() -> Figure:
    """The chord of a concave function lies below it."""
    figure, (panel,) = panels(1, width=6.0, height=3.9)
    low, high, weight = 0.35, 4.0, 0.6
    x = np.linspace(0.22, 4.5, 300)
    panel.plot(x, np.log(x), color=BLUE)
    panel.plot([low, high], np.log([low, high]), "o-", color=ORANGE)
    mean = weight * low + (1 - weight) * high
    chord = weight * math.log(low) + (1 - weight) * math.log(high)
    panel.plot([mean, mean], [-1.6, chord], color=GREY, linewidth=0.9, linestyle=":")
    panel.plot([mean, mean], [chord, math.log(mean)], color=RED, linewidth=2.4)
    panel.plot([mean], [math.log(mean)], "o", color=BLUE)
    panel.plot([mean], [chord], "o", color=ORANGE)
    panel.text(mean - 0.08, math.log(mean) + 0.07, "log E[X]", color=BLUE, ha="right")
    panel.text(mean + 0.09, chord - 0.17, "E[log X]", color=ORANGE)
    panel.text(mean + 0.09, (chord + math.log(mean)) / 2 + 0.06, "gap", color=RED)
    panel.set(xlim=(0, 4.6), ylim=(-1.6, 1.75), xticks=[low, mean, high])
    panel.set_xticklabels(["x₁", "E[X]", "x₂"])
    label(panel, title="log is concave: the chord lies below the curve", y="log x")
    return figure


def decoder() -> Figure:
    """The byte's probability is the area over its bin; the outer bins are open."""
    figure, (inner, outer) = panels(2)
    _bins(inner, level=131, mean=LEVELS[128], std=0.02)
    inner.set_title("byte 131: its bin is 2/255 wide")
    _bins(outer, level=255, mean=LEVELS[253], std=0.02)
    outer.set_title("byte 255: its bin reaches to ∞")
    for panel in (inner, outer):
        panel.set_xlabel("x")
    inner.set_ylabel(r"density of $\mathcal{N}(\mu_\theta, \sigma_1^2)$")
    return figure


def _bins(panel: Axes, *, level: int, mean: float, std: float) -> None:
    span = 4.2 * std
    x = np.linspace(mean - span, mean + span, 800)
    for edge in LEVELS[1:] - HALF_BIN:
        if mean - span < edge < mean + span:
            panel.axvline(edge, color=PALE, linewidth=0.7)
    lower, upper = LEVELS[level] - HALF_BIN, LEVELS[level] + HALF_BIN
    inside = x >= lower if level == 255 else (x >= lower) & (x <= upper)
    panel.fill_between(x[inside], normal_density(x[inside], mean, std**2), color=ORANGE, alpha=0.6)
    panel.plot(x, normal_density(x, mean, std**2), color=BLUE)
    panel.axvline(mean, color=BLUE, linewidth=0.9, linestyle=":")
    top = float(normal_density(np.array(mean), mean, std**2))
    panel.text(mean - 0.12 * std, 0.03 * top, "μ", color=BLUE, ha="right")
    panel.annotate(
        "P(byte)",
        (LEVELS[level], 0.5 * float(normal_density(np.array(LEVELS[level]), mean, std**2))),
        xytext=(mean + 1.9 * std, 0.72 * top),
        color=ORANGE,
        arrowprops={"arrowstyle": "-", "color": ORANGE},
    )
    panel.set(xlim=(mean - span, mean + span), ylim=(0, 1.08 * top))
    panel.grid(visible=False)


def rectangle() -> Figure:
    """Density × bin width beside the integral: good where σ is wide, above 1 where it is narrow."""
    figure, axes = panels(2)
    centre = LEVELS[128]
    for panel, std, off in zip(axes, (0.0074, 0.0025), (0.6, 0.1), strict=True):
        mean = centre + off * 2 * HALF_BIN
        x = np.linspace(centre - 5 * HALF_BIN, centre + 5 * HALF_BIN, 800)
        inside = np.abs(x - centre) <= HALF_BIN
        density = 2 * HALF_BIN * normal_density(x, mean, std**2)  # per grey level
        height = 2 * HALF_BIN * float(normal_density(np.array(centre), mean, std**2))
        panel.fill_between(x[inside], density[inside], color=ORANGE, alpha=0.55)
        panel.plot(centre + HALF_BIN * np.array([-1, -1, 1, 1]), [0, height, height, 0], color=INK)
        panel.plot(x, density, color=BLUE)
        scale = 1 / (std * math.sqrt(2))
        integral = 0.5 * (
            math.erf((centre + HALF_BIN - mean) * scale)
            - math.erf((centre - HALF_BIN - mean) * scale)
        )
        panel.text(
            0.03,
            0.97,
            f"integral  {integral:.3f}\nrectangle {height:.3f}",
            transform=panel.transAxes,
            va="top",
            family="DejaVu Sans Mono",
            fontsize=9,
        )
        panel.set(xlim=(x[0], x[-1]), ylim=(0, 1.3 * density.max()))
        panel.set_xticks(
            centre + 2 * HALF_BIN * np.arange(-2, 3), ["126", "127", "128", "129", "130"]
        )
        panel.grid(visible=False)
        label(panel, title=f"σ = {std * 127.5:.2f} grey levels", x="grey level")
    axes[0].set_ylabel("density per grey level")
    return figure


def posterior() -> Figure:
    """Two Gaussians multiply into a third, which is narrower than either."""
    figure, (panel,) = panels(1, width=6.4, height=3.7)
    alpha, before, x0, xt = 0.6, 0.45, 0.9, -0.35
    x = np.linspace(-2.4, 2.6, 500)
    prior = math.sqrt(1 - before) * x0, math.sqrt(before)
    seen = xt / math.sqrt(alpha), math.sqrt((1 - alpha) / alpha)
    precision = 1 / prior[1] ** 2 + 1 / seen[1] ** 2
    mean = (prior[0] / prior[1] ** 2 + seen[0] / seen[1] ** 2) / precision
    for (centre, std), colour, name in (
        (prior, BLUE, r"from $x_0$:  $q(x_{t-1}\,|\,x_0)$"),
        (seen, GREEN, r"towards $x_t$:  $q(x_t\,|\,x_{t-1})$"),
        ((mean, precision**-0.5), ORANGE, r"product:  $q(x_{t-1}\,|\,x_t, x_0)$"),
    ):
        panel.plot(x, normal_density(x, centre, std**2), color=colour, label=name)
        panel.axvline(centre, color=colour, linewidth=0.8, linestyle=":")
    panel.fill_between(x, normal_density(x, mean, 1 / precision), color=ORANGE, alpha=0.18)
    panel.set(xlim=(-2.4, 2.6), ylim=(0, 1.15))
    label(panel, title="Bayes: precisions add, the mean lies between", x=r"$x_{t-1}$", y="density")
    panel.legend(loc="upper right")
    return figure


def variances() -> Figure:
    """β̃/β: the two fixed variances differ at the first few t only."""
    figure, (panel,) = panels(1, width=6.0)
    for name, schedule, colour in (
        ("linear, T = 1000", NoiseSchedule.linear(), BLUE),
        ("cosine, T = 1000", NoiseSchedule.cosine(), ORANGE),
        ("cosine, T = 4000", NoiseSchedule.cosine(4000), GREEN),
    ):
        t = np.arange(2, schedule.T + 1)
        panel.plot(t, schedule.beta_tilde[2:] / schedule.beta[2:], color=colour, label=name)
    panel.axhline(1, color=GREY, linewidth=0.9, linestyle=":")
    panel.set(xscale="log", xlim=(2, 4000), ylim=(0.4, 1.03))
    label(panel, title="the two fixed variances", x="t", y=r"$\tilde\beta_t\,/\,\beta_t$")
    panel.legend(loc="lower right")
    return figure


def weights() -> Figure:
    """w_t of the bound, beside the 1 of L_simple."""
    figure, axes = panels(2)
    schedules = (("linear", NoiseSchedule.linear()), ("cosine", NoiseSchedule.cosine()))
    for panel, (name, schedule) in zip(axes, schedules, strict=True):
        t = np.arange(1, schedule.T + 1)
        floored = np.maximum(schedule.beta_tilde, schedule.beta_tilde[2])
        panel.plot(
            t, eps_weights(schedule, floored)[1:], color=BLUE, label=r"$\sigma^2=\tilde\beta$"
        )
        panel.plot(
            t, eps_weights(schedule, schedule.beta)[1:], color=ORANGE, label=r"$\sigma^2=\beta$"
        )
        panel.axhline(1, color=GREY, linewidth=1.2, linestyle="--", label=r"$L_{\mathrm{simple}}$")
        panel.set(xscale="log", yscale="log", xlim=(1, 1000), ylim=(1e-4, 1e3))
        label(panel, title=f"{name} schedule", x="t")
    axes[0].set_ylabel(r"$w_t$,  nats per unit of $\|\epsilon-\epsilon_\theta\|^2$")
    axes[0].legend(loc="upper center")
    return figure


def bound_terms() -> Figure:
    """L_{t−1} for each t of the best model of Gaussian data, for both fixed variances."""
    figure, axes = panels(2)
    schedules = (("linear", NoiseSchedule.linear()), ("cosine", NoiseSchedule.cosine()))
    for panel, (name, schedule) in zip(axes, schedules, strict=True):
        for variance, colour, dash in (("beta_tilde", BLUE, "-"), ("beta", ORANGE, "--")):
            diffusion = GaussianDiffusion(schedule, variance=variance)  # type: ignore[arg-type]
            oracle = GaussianOracle(schedule, 0.0, 0.25)
            chain = affine_chain(diffusion, oracle, (1, 1, 1))
            bits = chain.bound_terms(np.full((1, 1, 1, 1), 0.5))[:, 0] / math.log(2)
            total = bits.sum() - math.log2(2 * HALF_BIN)
            sign = r"\tilde\beta" if variance == "beta_tilde" else r"\beta"
            text = rf"$\sigma^2={sign}$:  {total:.2f} bits in all"
            panel.plot(np.arange(2, schedule.T + 1), bits[1:-1], dash, color=colour, label=text)
        panel.set(xscale="log", yscale="log", xlim=(2, 1000), ylim=(1e-5, 1))
        label(panel, title=rf"{name} schedule, data $\mathcal{{N}}(0, 1/4)$", x="t")
        panel.legend(loc="upper right")
    axes[0].set_ylabel(r"$L_{t-1}$, bits")
    return figure
