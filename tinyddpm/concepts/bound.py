"""The two ends of the bound, L_T and L_0: concepts 16 to 19."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np

from tinyddpm.concepts import independent
from tinyddpm.concepts.concept import Check, Concept, exactly, table
from tinyddpm.diffusion import bound, decoder
from tinyddpm.diffusion.gaussian import GaussianDiffusion
from tinyddpm.diffusion.schedule import NoiseSchedule


def _check_prior_term() -> Check:
    pixels = np.array([-1.0, 0.0, 0.5, 1.0])
    ours, others = [], []
    for schedule in (NoiseSchedule.linear(), NoiseSchedule.linear(100)):
        signals, variances = independent.walk(schedule.beta[1:])
        ours += bound.prior_term(GaussianDiffusion(schedule), pixels.reshape(4, 1, 1, 1)).tolist()
        others += [independent.kl(signals[-1] * x, variances[-1], 0.0, 1.0) for x in pixels]
    return exactly(
        "L_T of a pixel at −1, 0, 0.5 and 1, linear schedules of 1000 and 100 steps, nats",
        ours,
        "∫ q log(q/p) summed on a grid",
        others,
        rtol=1e-6,  # at x_0 = 0 it is 4·10⁻¹⁰ nats, the difference of numbers near 1
    )


def _table_prior_term() -> str:
    white, grey = np.ones((1, 1, 1, 1)), np.full((1, 1, 1, 1), 0.5)
    rows = []
    for name, schedule in (
        ("linear 1000", NoiseSchedule.linear()),
        ("linear 4000", NoiseSchedule.linear(4000)),
        ("cosine 1000", NoiseSchedule.cosine()),
    ):
        diffusion = GaussianDiffusion(schedule)
        bits = [float(diffusion.prior_term(x)[0]) / math.log(2) for x in (white, grey)]
        rows.append((name, schedule.alpha_bar[-1], *bits))
    return table(("schedule", "ᾱ_T", "bits/dim at |x_0| = 1", "at 0.5"), rows)


def _check_decoder() -> Check:
    levels, means, stds = (0, 1, 100, 128, 254, 255), (-1.0, -0.2, 0.004, 0.99), (0.02, 0.1, 0.5)
    cases = [
        (k, m, s) for k in levels for m in means for s in stds if abs(k / 127.5 - 1 - m) < 9 * s
    ]
    level, mean, std = np.array(cases).T
    log_p, _ = decoder.log_probability(level / 127.5 - 1, mean, 2 * np.log(std))
    every = decoder.log_bins(np.array([-1.0, 0.3]), np.log(np.array([1e-4, 0.2])))
    return exactly(
        "P(byte) near the mean and up to 9 σ away, and the sum over all 256 bytes",
        np.concatenate([np.exp(log_p), np.exp(every).sum(axis=1)]),
        "∫ of the density over the bin by math.erfc, and 1",
        [*(independent.byte_probability(int(k), m, s) for k, m, s in cases), 1.0, 1.0],
        rtol=1e-11,
    )


def _table_decoder() -> str:
    std = 0.00738
    x0 = (128 + np.array([0, 1, 3, 6, 12, 25])) / 127.5 - 1
    mean, log_variance = np.full(6, x0[0]), np.full(6, 2 * math.log(std))
    exact = decoder.log_probability(x0, mean, log_variance)[0]
    tanh = decoder.tanh_log_probability(*(a.astype(np.float32) for a in (x0, mean, log_variance)))
    flat = decoder.rectangle_log_probability(x0, mean, log_variance)
    bits = np.stack([exact, tanh, flat], axis=1) / -math.log(2)
    rows = [(round(127.5 * (x - x0[0])), *row) for x, row in zip(x0, bits.tolist(), strict=True)]
    near = table(("levels off", "bits, exact", "bits, tanh in float32", "bits, rectangle"), rows)
    at = np.zeros(1), np.full(1, 2 * math.log(std))
    kinds: tuple[decoder.Decoder, ...] = ("tanh", "rectangle")
    costs = [(kind, float(decoder.decoder_cost(kind, *at)[0])) for kind in kinds]
    return near + "\n\n" + table(("in place of the exact", "bits/dim more, on average"), costs)


def _check_first_variance() -> Check:
    ours, others = [], []
    for schedule in (NoiseSchedule.linear(), NoiseSchedule.cosine()):
        image = np.zeros((1, 1, 1, 1))
        for variance in ("beta", "beta_tilde"):
            diffusion = GaussianDiffusion(schedule, variance=variance)
            ours.append(diffusion.p_mean_variance(image, image, 1).variance.item())
        learned = GaussianDiffusion(schedule, variance="learned")
        output = np.concatenate([image, image - 1], axis=-1)
        ours.append(learned.p_mean_variance(output, image, 1).variance.item())
        first, second = schedule.beta[1:3]
        others += [independent.bayes(0.0, first, 1 - second, 0.0)[1]] * 3
    return exactly(
        "σ_1² for fixed β, fixed β̃ and learned with v = −1, linear and cosine",
        ours,
        "the variance of x_1 given x_2 and x_0: precisions 1/β_1 and α_2/β_2 add",
        others,
    )


def _table_first_variance() -> str:
    schedule = NoiseSchedule.linear()
    grey, mean = np.array([128 / 127.5 - 1]), 128 / 127.5 - 1
    rows = []
    for name, variance in (
        ("β_1, linear", schedule.beta[1]),
        ("β̃_2, linear", schedule.beta_tilde[2]),
        ("β̃_2, cosine", NoiseSchedule.cosine().beta_tilde[2]),
        ("β̃_2, log-SNR linear", NoiseSchedule.log_snr_linear(1000).beta_tilde[2]),
        ("10⁻²⁰, as sometimes copied", 1e-20),
    ):
        spread = np.log(np.array([variance]))
        hit, miss = (
            -decoder.log_probability(grey, np.array([mean + off / 127.5]), spread)[0] / math.log(2)
            for off in (0.0, 0.6)
        )
        rows.append((name, math.sqrt(variance) * 127.5, float(hit[0]), float(miss[0])))
    header = ("σ_1²", "σ_1 in grey levels", "bits, mean exact", "bits, mean 0.6 levels off")
    return table(header, rows)


def _check_worked_example() -> Check:
    example = decoder.worked_example(level=128, mean=0.0, std=0.01)
    x0 = 128 / 127.5 - 1
    integral = independent.simpson(NormalDist(0.0, 0.01).pdf, x0 - 1 / 255, x0 + 1 / 255)
    return exactly(
        "the probability of byte 128 and its bits, for μ = 0 and σ = 0.01",
        [example.probability, example.bits],
        "∫ of statistics.NormalDist(0, 0.01).pdf from 127.5 to 128.5, by Simpson's rule",
        [integral, -math.log2(integral)],
        rtol=1e-10,
    )


def _table_worked_example() -> str:
    named = decoder.worked_example()._asdict()
    labels = {
        "x0": "x_0 = 128/127.5 − 1",
        "a": "a = (x_0 − 1/255 − μ)/σ",
        "b": "b = (x_0 + 1/255 − μ)/σ",
        "cdf_a": "Φ(a)",
        "cdf_b": "Φ(b)",
        "probability": "P = Φ(b) − Φ(a)",
        "rectangle": "density × 2/255",
        "bits": "−log₂ P",
    }
    width = max(map(len, labels.values()))
    return "\n".join(f"{labels[key]:<{width}}  {value:9.6f}" for key, value in named.items())


CONCEPTS = (
    Concept(
        number=16,
        name="prior-term",
        title="L_T: what is left of the image in x_T",
        text="""The last forward step and the prior should agree. L_T measures by how much they
        do not. It has no parameters, so training ignores it; it is about 10⁻⁵ bits per
        dimension, which says that T and β were chosen well.""",
        equation="""L_T = KL(q(x_T | x_0) ‖ 𝒩(0, I)) = ½ Σ_i (ᾱ_T x_{0,i}² − ᾱ_T − log(1−ᾱ_T))""",
        functions=(bound.prior_term,),
        check=_check_prior_term,
        table=_table_prior_term,
    ),
    Concept(
        number=17,
        name="decoder",
        title="L_0: the probability of a byte under a Gaussian",
        text="""Pixels are bytes, but the model's last step is a density. The probability of a
        byte is the integral of the density over its bin, half a level to both sides; the bins of
        black and white reach to infinity, so that all 256 sum to 1. The product over pixels is
        p(x_0 | x_1). The published code replaces Φ by a tanh and stops at 10⁻¹², where its
        gradient dies; here the logarithm of the difference is exact at any distance.""",
        equation="""p_θ(x_0 | x_1) = Π_i ∫_{δ₋(x_i)}^{δ₊(x_i)} 𝒩(y; μ_θ,i, σ_1²) dy
        δ₊ = ∞ if x = 1, else x + 1/255      δ₋ = −∞ if x = −1, else x − 1/255""",
        functions=(decoder.log_probability,),
        check=_check_decoder,
        table=_table_decoder,
        figure="decoder",
    ),
    Concept(
        number=18,
        name="first-variance",
        title="σ_1, the width of the decoder",
        text="""At t = 1 the posterior variance β̃_1 is 0, which is no width for a density. The
        authors' code takes β̃_2 at t = 1 instead, for both fixed kinds and for the lower end of
        the learned one: with the linear schedule of 1000 steps just under one grey level. Code
        that clips the variance at 10⁻²⁰ pays without limit for a mean that is not exactly
        right.""",
        equation="σ_1² = β̃_2 = β_2 (1−ᾱ_1)/(1−ᾱ_2)",
        functions=(GaussianDiffusion.p_mean_variance,),
        check=_check_first_variance,
        table=_table_first_variance,
    ),
    Concept(
        number=19,
        name="worked-example",
        title="The decoder, number by number",
        text="""One pixel of byte 128, a predicted mean of 0 and σ_1 = 0.01: the bin's edges in
        standard deviations, Φ at both, their difference, and its bits. The log-probability of an
        image is the sum over its pixels.""",
        equation="P = Φ(b) − Φ(a),   a, b = (x_0 ∓ 1/255 − μ)/σ,   log p(x_0 | x_1) = Σ_i log P_i",
        functions=(decoder.worked_example,),
        check=_check_worked_example,
        table=_table_worked_example,
        figure="decoder",
    ),
)
