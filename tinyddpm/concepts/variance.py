"""The variance of the way back, and the loss that teaches it: concepts 30 to 33."""

from __future__ import annotations

import math

import numpy as np

from tinyddpm.arrays import Array
from tinyddpm.concepts import independent
from tinyddpm.concepts.concept import Check, Concept, exactly, table
from tinyddpm.diffusion import losses
from tinyddpm.diffusion.gaussian import GaussianDiffusion
from tinyddpm.diffusion.learned_variance import learned_log_variance
from tinyddpm.diffusion.schedule import NoiseSchedule


def _check_fixed_variance() -> Check:
    schedule, x0, xt = NoiseSchedule.linear(), 0.3, 0.1
    signals, variances = independent.walk(schedule.beta[1:])
    pixel, ours, others = np.zeros((1, 1, 1, 1)), [], []
    x, _ = independent.grid(0.0, 8.0, 40_001)
    for t in (2, 10, 500, 1000):
        alpha, beta = 1 - schedule.beta[t], schedule.beta[t]
        likelihood = -0.5 * (xt - math.sqrt(alpha) * x) ** 2 / beta
        one_image = -0.5 * (x - signals[t - 2] * x0) ** 2 / variances[t - 2]
        for variance, prior in (("beta", -0.5 * x * x), ("beta_tilde", one_image)):
            diffusion = GaussianDiffusion(schedule, variance=variance)  # type: ignore[arg-type]
            ours.append(diffusion.p_mean_variance(pixel, pixel, t).variance.item())
            others.append(independent.moments_on_grid(x, prior + likelihood)[1])
    return exactly(
        "σ_t² = β_t and β̃_t at t = 2, 10, 500, 1000",
        ours,
        "Bayes on a grid: Var[x_{t−1} | x_t] if the data are 𝒩(0, 1), and if they are one image",
        others,
        rtol=1e-9,
    )


def _table_fixed_variance() -> str:
    rows = []
    for t in (2, 3, 10, 50, 500):
        ratios = [s.beta_tilde[t] / s.beta[t] for s in _SCHEDULES]
        rows.append((t, *map(float, ratios)))
    return table(("t", "β̃/β, linear", "β̃/β, cosine"), rows)


_SCHEDULES = (NoiseSchedule.linear(), NoiseSchedule.cosine())


def _check_learned_variance() -> Check:
    schedule, v = NoiseSchedule.cosine(), np.array([-1.0, -0.5, 0.0, 0.3, 1.0, 1.5])
    diffusion = GaussianDiffusion(schedule, variance="learned")
    _, variances = independent.walk(schedule.beta[1:])
    ours, others = [], []
    for t in (2, 500):
        pixels = np.zeros((len(v), 1, 1, 1))
        output = np.concatenate([pixels, v.reshape(pixels.shape)], axis=-1)
        ours += diffusion.p_mean_variance(output, pixels, t).variance.ravel().tolist()
        beta = schedule.beta[t]
        tilde = independent.bayes(0.0, variances[t - 2], 1 - beta, 0.0)[1]
        others += [beta ** ((x + 1) / 2) * tilde ** ((1 - x) / 2) for x in v.tolist()]
    return exactly(
        "σ² for v from −1 to 1.5 at t = 2 and 500",
        ours,
        "the geometric mean β^f β̃^(1−f), f = (v+1)/2, with β̃ from adding precisions",
        others,
        rtol=1e-10,
    )


def _table_learned_variance() -> str:
    rows = []
    lower, upper = GaussianDiffusion(_SCHEDULES[1], variance="learned").log_variance_ends
    for v in (-1.0, 0.0, 1.0):
        sigma2 = [
            math.exp(learned_log_variance(np.array(v), lower[t], upper[t])[0]) for t in (1, 2, 500)
        ]
        rows.append((v, *sigma2))
    return table(("v, cosine chain", "σ² at t = 1", "t = 2", "t = 500"), rows)


_BYTES = np.array([[0, 90], [200, 255]])
_BETA = (0.1, 0.25, 0.4)


def _hybrid_case(t: int) -> tuple[GaussianDiffusion, list[Array]]:
    """A chain of three steps, and output, x_0, x_t, ε for an image of 2 × 2 pixels."""
    diffusion = GaussianDiffusion(NoiseSchedule.from_beta(_BETA), variance="learned")
    x0 = (_BYTES / 127.5 - 1).reshape(1, 2, 2, 1)
    eps = independent.normals(32, *x0.shape)
    output = 0.5 * independent.normals(33, 1, 2, 2, 2)
    return diffusion, [output, x0, diffusion.q_sample(x0, t, eps), eps]


def _nats_by_hand(output: Array, x0: Array, xt: Array, t: int) -> float:
    """L_{t−1}, pixel by pixel: posteriors by precisions, KL by integration, bins by erfc."""
    signals, variances = independent.walk(_BETA)
    signal, variance = (signals[t - 2], variances[t - 2]) if t > 1 else (1.0, 0.0)
    later = max(t, 2)
    alpha = 1 - _BETA[t - 1]
    _, tilde = independent.bayes(0.0, variances[later - 2], 1 - _BETA[later - 1], 0.0)
    nats = 0.0
    pixels = zip(output.reshape(-1, 2), x0.ravel(), xt.ravel(), _BYTES.ravel(), strict=True)
    for (eps_hat, v), clean, noisy, level in pixels:
        x0_hat = (noisy - math.sqrt(variances[t - 1]) * eps_hat) / signals[t - 1]
        sigma2 = _BETA[t - 1] ** ((v + 1) / 2) * tilde ** ((1 - v) / 2)
        if t == 1:
            p = independent.byte_probability(int(level), x0_hat, math.sqrt(sigma2))
            nats -= math.log(p)
            continue
        mean, spread = independent.bayes(signal * clean, variance, alpha, noisy)
        mean_hat, _ = independent.bayes(signal * x0_hat, variance, alpha, noisy)
        nats += independent.kl(mean, spread, mean_hat, sigma2)
    return nats


def _check_hybrid_loss() -> Check:
    ours, others = [], []
    for t in (1, 2, 3):
        diffusion, (output, x0, xt, eps) = _hybrid_case(t)
        hybrid, _ = losses.image_losses(diffusion, output, x0, xt, eps, t)
        ours.append(float(hybrid[0] - ((output[..., :1] - eps) ** 2).mean()))
        others.append(_nats_by_hand(output, x0, xt, t))
    bits = sum(others) / (4 * math.log(2))
    return exactly(
        "L_hybrid − L_simple, the mean over t = 1 … 3",
        np.mean(ours),
        "0.001 × (L_0 + L_1 + L_2) in bits/dim: KL by integration, decoder by erfc",
        0.001 * bits,
        rtol=1e-8,
    )


def _table_hybrid_loss() -> str:
    rows = []
    for t in (1, 2, 3):
        diffusion, (output, x0, xt, eps) = _hybrid_case(t)
        hybrid, _ = losses.image_losses(diffusion, output, x0, xt, eps, t)
        simple = float(((output[..., :1] - eps) ** 2).mean())
        rows.append((t, simple, float(hybrid[0]) - simple, _nats_by_hand(output, x0, xt, t)))
    return table(("t", "L_simple", "λ L_vlb", "L_{t−1}, nats"), rows)


def _check_stop_gradient() -> Check:
    ours, others = [], []
    for t in (1, 3):
        diffusion, (output, x0, xt, eps) = _hybrid_case(t)
        _, doutput = diffusion.loss(output, x0, xt, eps, t)
        ours.append(doutput.ravel())
        others += [_slope_of(part, output, x0, xt, eps, t) for part in np.ndindex(output.shape)]
    return exactly(
        "the gradient of L_hybrid by the 4 ε and the 4 v, at t = 1 and 3",
        np.concatenate(ours),
        "differences: of L_simple alone by ε, of λ L_vlb worked out by hand by v",
        others,
        rtol=1e-6,
    )


def _slope_of(
    index: tuple[int, ...], output: Array, x0: Array, xt: Array, eps: Array, t: int
) -> float:
    def value(entry: float) -> float:
        moved = output.copy()
        moved[index] = entry
        if index[-1] == 0:
            return float(((moved[..., :1] - eps) ** 2).mean())
        return 0.001 * 3 * _nats_by_hand(moved, x0, xt, t) / (4 * math.log(2))

    return independent.slope(value, float(output[index]), 1e-3)


def _table_stop_gradient() -> str:
    rows = []
    for t in (1, 2, 3):
        diffusion, (output, x0, xt, eps) = _hybrid_case(t)
        _, doutput = diffusion.loss(output, x0, xt, eps, t)
        simple = GaussianDiffusion(diffusion.schedule)
        _, dsimple = simple.loss(output[..., :1], x0, xt, eps, t)
        same = "every bit" if np.array_equal(doutput[..., :1], dsimple) else "no"
        rows.append((t, same, float(np.abs(doutput[..., 1]).max())))
    header = ("t", "gradient of ε as in L_simple", "largest gradient of v")
    return table(header, rows)


CONCEPTS = (
    Concept(
        number=30,
        name="fixed-variance",
        title="Two fixed variances: β and β̃",
        text="""What variance should the way back have? If the data were 𝒩(0, I), exactly β_t; if
        they were a single image, exactly β̃_t. Real data lie between. The two differ at the
        first few t only, and samples hardly show the difference; the likelihood does.""",
        equation="""Σ_θ = σ_t² I,   σ_t² = β_t   or   σ_t² = β̃_t = β_t (1−ᾱ_{t−1})/(1−ᾱ_t)""",
        functions=(GaussianDiffusion.p_mean_variance,),
        check=_check_fixed_variance,
        table=_table_fixed_variance,
        figure="variances",
    ),
    Concept(
        number=31,
        name="learned-variance",
        title="The learned variance: between the two, on a logarithmic scale",
        text="""The best variance lies between β̃_t and β_t, which are so close that a network
        could hardly find it directly. So the network gives v, one for each pixel and channel,
        and the logarithm of σ² is interpolated: v = −1 is β̃_t, v = 1 is β_t, and nothing stops
        it from going a little beyond.""",
        equation="σ_t² = exp(f log β_t + (1−f) log β̃_t),   f = (v + 1)/2",
        functions=(learned_log_variance,),
        check=_check_learned_variance,
        table=_table_learned_variance,
    ),
    Concept(
        number=32,
        name="hybrid-loss",
        title="The hybrid loss",
        text="""L_simple says nothing about the variance; the bound does. Their sum, with a small
        λ, teaches both. λ = 0.001 is for the whole bound, summed over t, in bits/dim; with t
        drawn evenly one term stands for T of them. Copies that leave out the factor T, or count
        in nats, use a λ that is off by orders of magnitude.""",
        equation="L_hybrid = L_simple + λ L_vlb,   L_vlb = T L_{t−1}/(D ln 2),   λ = 0.001",
        functions=(losses.image_losses,),
        check=_check_hybrid_loss,
        table=_table_hybrid_loss,
    ),
    Concept(
        number=33,
        name="stop-gradient",
        title="The bound guides the covariance, and nothing else",
        text="""In L_vlb the mean is treated as given: its gradient is stopped. So the channels
        that predict the noise learn from L_simple exactly as if there were no bound, and those
        of v from the bound alone. What made the samples good is kept, and the likelihood gets
        better.""",
        equation="∂L_hybrid/∂ε_θ = ∂L_simple/∂ε_θ,   ∂L_hybrid/∂v = λ ∂L_vlb/∂v",
        functions=(losses.image_losses_backward,),
        check=_check_stop_gradient,
        table=_table_stop_gradient,
    ),
)
