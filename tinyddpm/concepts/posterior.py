"""The posterior, and its mean through ε: concepts 20 and 21."""

from __future__ import annotations

import math

import numpy as np

from tinyddpm.concepts import independent
from tinyddpm.concepts.concept import Check, Concept, exactly, table
from tinyddpm.diffusion.gaussian import GaussianDiffusion
from tinyddpm.diffusion.schedule import NoiseSchedule

TIMES = (2, 10, 500, 1000)


def pixel(x: float) -> independent.Floats:
    """An image of one pixel."""
    return np.full((1, 1, 1, 1), x)


def _check_posterior() -> Check:
    schedule, x0 = NoiseSchedule.linear(), 0.4
    diffusion = GaussianDiffusion(schedule)
    signals, variances = independent.walk(schedule.beta[1:])
    ours: list[float] = []
    others: list[float] = []
    for t in TIMES:
        xt, beta = signals[t - 1] * x0 + 0.7 * math.sqrt(variances[t - 1]), schedule.beta[t]
        ours += [number.item() for number in diffusion.q_posterior(pixel(x0), pixel(xt), t)]
        x, _ = independent.grid(0.0, 8.0, 40_001)
        prior = -0.5 * (x - signals[t - 2] * x0) ** 2 / variances[t - 2]
        likelihood = -0.5 * (xt - math.sqrt(1 - beta) * x) ** 2 / beta
        others += independent.moments_on_grid(x, prior + likelihood)
    return exactly(
        "μ̃_t and β̃_t at t = 2, 10, 500 and 1000",
        ours,
        "Bayes on a grid: q(x_{t−1} | x_0) q(x_t | x_{t−1}), normalised; its mean and variance",
        others,
        rtol=1e-9,
    )


def _table_posterior() -> str:
    schedule = NoiseSchedule.linear()
    diffusion = GaussianDiffusion(schedule)
    rows = []
    for t in (1, *TIMES):
        weights = [
            diffusion.q_posterior(pixel(x0), pixel(1.0 - x0), t)[0].item() for x0 in (1.0, 0.0)
        ]
        tilde = schedule.beta_tilde[t]
        rows.append((t, *weights, tilde, tilde / schedule.beta[t]))
    return table(("t, linear chain", "weight of x_0", "weight of x_t", "β̃_t", "β̃_t/β_t"), rows)


def _check_mean_from_eps() -> Check:
    schedule = NoiseSchedule.linear()
    diffusion, n = GaussianDiffusion(schedule), 4
    xt, eps = independent.normals(21, n, 1, 1, 1), independent.normals(22, n, 1, 1, 1)
    _, variances = independent.walk(schedule.beta[1:])
    ours, others = [], []
    for t in (1, *TIMES):
        ours += diffusion.p_mean_variance(eps, xt, t, clip=False).mean.ravel().tolist()
        beta = schedule.beta[t]
        for x, e in zip(xt.ravel(), eps.ravel(), strict=True):
            noise = beta / math.sqrt(variances[t - 1]) * e
            others.append((x - noise) / math.sqrt(1 - beta))
    return exactly(
        "the mean of p(x_{t−1} | x_t), through x̂_0 and μ̃_t, at t = 1, 2, 10, 500, 1000",
        ours,
        "the paper's (x_t − β_t/√(1−ᾱ_t) ε)/√α_t",
        others,
        rtol=1e-10,
    )


def _table_mean_from_eps() -> str:
    schedule = NoiseSchedule.linear()
    rows = [
        (
            t,
            1 / math.sqrt(schedule.alpha[t]),
            schedule.beta[t] / math.sqrt(schedule.one_minus_alpha_bar[t] * schedule.alpha[t]),
            math.sqrt(schedule.one_minus_alpha_bar[t] / schedule.alpha_bar[t]),
        )
        for t in (1, *TIMES)
    ]
    return table(("t, linear chain", "x_t in μ", "ε in μ", "ε in x̂_0"), rows)


CONCEPTS = (
    Concept(
        number=20,
        name="posterior",
        title="The posterior: Bayes, and completing the square",
        text="""Which x_{t−1} lies between a known x_0 and a known x_t? Bayes multiplies two
        Gaussians. One says where x_{t−1} would be, coming from x_0; the other, from which x_{t−1}
        this x_t would be reached. The exponents add to one quadratic in x_{t−1}; completing the
        square reads off its centre μ̃_t and its variance β̃_t. Precisions, the inverses of
        variances, simply add.""",
        equation="""q(x_{t−1} | x_t, x_0) = 𝒩(μ̃_t, β̃_t I)
        μ̃_t = √ᾱ_{t−1} β_t/(1−ᾱ_t) x_0 + √α_t (1−ᾱ_{t−1})/(1−ᾱ_t) x_t
        β̃_t = β_t (1−ᾱ_{t−1})/(1−ᾱ_t),   1/β̃_t = 1/(1−ᾱ_{t−1}) + α_t/β_t""",
        functions=(GaussianDiffusion.q_posterior,),
        check=_check_posterior,
        table=_table_posterior,
        figure="posterior",
    ),
    Concept(
        number=21,
        name="mean-from-eps",
        title="The posterior mean through ε",
        text="""x_0 is not known on the way back, but x_t and ε give it. Put that into μ̃_t, and
        the mean is x_t less a little of the noise. So the network only has to say what the noise
        was.""",
        equation="""x_0 = (x_t − √(1−ᾱ_t) ε)/√ᾱ_t   ⇒   μ̃_t = (x_t − β_t/√(1−ᾱ_t) ε)/√α_t""",
        functions=(GaussianDiffusion.predict_x0, GaussianDiffusion.p_mean_variance),
        check=_check_mean_from_eps,
        table=_table_mean_from_eps,
    ),
)
