"""How the divergences turn into a squared error of the noise: concepts 22 to 24."""

from __future__ import annotations

import math

import numpy as np

from tinyddpm.concepts import independent
from tinyddpm.concepts.concept import Check, Concept, exactly, on_average, table
from tinyddpm.concepts.posterior import TIMES, pixel
from tinyddpm.diffusion import bound, decoder, losses
from tinyddpm.diffusion.gaussian import GaussianDiffusion
from tinyddpm.diffusion.kl import normal_kl
from tinyddpm.diffusion.oracles import GaussianOracle
from tinyddpm.diffusion.schedule import NoiseSchedule


def _check_kl_weight() -> Check:
    schedule = NoiseSchedule.linear()
    ours = [bound.eps_weights(schedule, _floored(schedule))[t] for t in TIMES]
    others = []
    for t in TIMES:
        # One unit of error in ε moves the mean by β_t/√(α_t (1−ᾱ_t)).
        shift = schedule.beta[t] / math.sqrt((1 - schedule.beta[t]) * (1 - schedule.alpha_bar[t]))
        _, before = independent.walk(schedule.beta[1:t])
        _, variance = independent.bayes(0.0, before[-1], 1 - schedule.beta[t], 0.0)
        others.append(independent.kl(0.0, variance, shift, variance))
    unequal = [(0.3, 0.2, -0.1, 0.5), (0.0, 1.0, 2.0, 0.1), (-1.0, 0.01, -1.0, 0.02)]
    for m1, v1, m2, v2 in unequal:
        ours.append(normal_kl(*map(np.array, (m1, math.log(v1), m2, math.log(v2)))).item())
        others.append(independent.kl(m1, v1, m2, v2))
    return exactly(
        "w_t for σ² = β̃ at t = 2, 10, 500, 1000, and KL of three pairs of Gaussians",
        ours,
        "∫ p log(p/q) summed on a grid, for means one unit of ε apart",
        others,
        rtol=1e-9,
    )


def _table_kl_weight() -> str:
    schedule = NoiseSchedule.linear()
    weights = [bound.eps_weights(schedule, s) for s in (_floored(schedule), schedule.beta)]
    rows = [(t, weights[0][t], weights[1][t], 1) for t in (1, *TIMES)]
    return table(("t, linear chain", "w_t, σ² = β̃", "w_t, σ² = β", "L_simple"), rows)


def _floored(schedule: NoiseSchedule) -> independent.Floats:
    """β̃_t, with β̃_2 at t = 1."""
    floored: independent.Floats = np.maximum(schedule.beta_tilde, schedule.beta_tilde[2])
    return floored


def _check_simple_loss() -> Check:
    n, s2, schedule = 20_000, 0.3, NoiseSchedule.linear()
    diffusion, oracle = GaussianDiffusion(schedule), GaussianOracle(schedule, 0.0, s2)
    x0 = math.sqrt(s2) * independent.normals(23, n, 2, 1, 1)
    eps = independent.normals(24, *x0.shape)
    signals, variances = independent.walk(schedule.beta[1:])
    ours, others, errors = [], [], []
    for t in (1, 100, 300, 900):
        xt = diffusion.q_sample(x0, t, eps)
        each, _ = losses.image_losses(diffusion, oracle(xt, np.full(n, t)), x0, xt, eps, t)
        ours.append(each.mean())
        errors.append(each.std() / math.sqrt(n))
        signal2, noise2 = signals[t - 1] ** 2, variances[t - 1]
        others.append(1.0 - noise2 / (signal2 * s2 + noise2))
    return on_average(
        "L_simple of the best model for data 𝒩(0, 0.3), at t = 1, 100, 300, 900, by 20,000 draws",
        ours,
        "what a line through x_t leaves of ε: 1 − corr(ε, x_t)²",
        others,
        errors,
    )


def _table_simple_loss() -> str:
    schedule, s2 = NoiseSchedule.linear(), 0.3
    rows = []
    for t in (1, 10, 100, 300, 900):
        signal2, noise2 = schedule.alpha_bar[t], schedule.one_minus_alpha_bar[t]
        rows.append((t, 1.0, signal2 * s2 / (signal2 * s2 + noise2)))
    return table(("t, linear chain", "loss of ε̂ = 0", "of the best model, data 𝒩(0, 0.3)"), rows)


def _check_rectangle() -> Check:
    schedule, x0 = NoiseSchedule.linear(), 0.2
    sigma2 = _floored(schedule)
    diffusion = GaussianDiffusion(schedule, variance="beta_tilde")
    eps = 0.7
    x1 = diffusion.q_sample(pixel(x0), 1, pixel(eps))
    nats = []
    for error in (0.0, 0.5):
        reverse = diffusion.p_mean_variance(pixel(eps + error), x1, 1, clip=False)
        log_p = decoder.rectangle_log_probability(pixel(x0), reverse.mean, reverse.log_variance)
        nats.append(-log_p.item())
    beta = float(independent.linear_beta(1, 1000))
    density = independent.density(x0, x0, sigma2[1])
    return exactly(
        "w_1; the nats that an error of 0.5 in ε costs at t = 1; the nats of no error",
        [bound.eps_weights(schedule, sigma2)[1], nats[1] - nats[0], nats[0]],
        "β_1/(2 σ_1² α_1), a quarter of it, and −log(density · 2/255)",
        [
            beta / (2 * sigma2[1] * (1 - beta)),
            0.25 * beta / (2 * sigma2[1] * (1 - beta)),
            -math.log(density * 2 / 255),
        ],
        rtol=1e-8,
    )


def _table_rectangle() -> str:
    rows = []
    for mean, std in ((0.0, 0.01), (0.0, 0.0025), (0.99, 0.01), (0.99, 0.05)):
        spread = np.array([2 * math.log(std)])
        sums = [
            np.exp(decoder.log_bins(np.array([mean]), spread, kind)).sum()
            for kind in ("exact", "rectangle")
        ]
        rows.append((mean, std, *map(float, sums)))
    return table(("μ", "σ", "Σ of 256 integrals", "Σ of 256 rectangles"), rows)


CONCEPTS = (
    Concept(
        number=22,
        name="kl-weight",
        title="The divergence of two Gaussians, and the weight w_t",
        text="""With equal variances the divergence of two Gaussians is the squared distance of
        their means over 2σ². Both means are x_t less some noise, so that each term of the bound
        is a squared error of the noise with a weight. It falls along most of the chain, and
        rises again where β comes near 1, at the end of a cosine schedule steeply.""",
        equation="""KL(𝒩₁ ‖ 𝒩₂) = ½ (log σ₂²/σ₁² + σ₁²/σ₂² − 1 + (m₁−m₂)²/σ₂²)
        L_{t−1} = w_t ‖ε − ε_θ‖² + const,   w_t = β_t²/(2 σ_t² α_t (1−ᾱ_t))""",
        functions=(normal_kl, bound.eps_weights),
        check=_check_kl_weight,
        table=_table_kl_weight,
        figure="weights",
    ),
    Concept(
        number=23,
        name="simple-loss",
        title="The simple loss",
        text="""Drop the weight. What is left asks the network for the noise, equally at every t.
        That gives the small t, which are nearly solved, less weight than the bound does, and the
        samples get better. The loss does not go to 0: of many (x_0, ε) that lead to one x_t the
        network can only say the mean.""",
        equation="L_simple = E_{t, x_0, ε} ‖ε − ε_θ(√ᾱ_t x_0 + √(1−ᾱ_t) ε, t)‖²,  mean over pixels",
        functions=(losses.image_losses,),
        check=_check_simple_loss,
        table=_table_simple_loss,
    ),
    Concept(
        number=24,
        name="rectangle",
        title="t = 1 in the simple loss: density × bin width",
        text="""L_0 is an integral, the other terms are squared errors. Replace the integral by a
        rectangle, density × bin width, and L_0 becomes a squared error too, with the same
        formula for its weight: t = 1 needs no special case. The edges are ignored by this, and
        where σ is smaller than a bin the rectangles do not sum to 1.""",
        equation="""∫_{x−1/255}^{x+1/255} 𝒩(y; μ, σ_1²) dy ≈ 𝒩(x; μ, σ_1²) · 2/255
        −log p(x_0 | x_1) ≈ ‖x_0 − μ_θ‖²/2σ_1² + const = w_1 ‖ε − ε_θ‖² + const""",
        functions=(decoder.rectangle_log_probability, bound.eps_weights),
        check=_check_rectangle,
        table=_table_rectangle,
        figure="rectangle",
    ),
)
