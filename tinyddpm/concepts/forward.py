"""The data and the way into noise: concepts 1 to 6."""

from __future__ import annotations

import math
from fractions import Fraction
from statistics import NormalDist

import numpy as np

from tinyddpm.concepts import independent
from tinyddpm.concepts.concept import Check, Concept, exactly, on_average, table
from tinyddpm.data.glyphs import glyphs
from tinyddpm.data.pixels import from_bytes, to_bytes
from tinyddpm.diffusion.gaussian import GaussianDiffusion
from tinyddpm.diffusion.schedule import NoiseSchedule
from tinyddpm.ops.normal import inverse_cdf


def _check_inverse_cdf() -> Check:
    u = np.array([1e-12, 1e-6, 0.001, 0.025, 0.1, 0.3, 0.5 + 1e-3, 0.7, 0.975, 0.999])
    return exactly(
        "Φ⁻¹(u) for u from 10⁻¹² to 0.999",
        inverse_cdf(u),
        "the root of Φ(x) = u, by bisection with math.erfc",
        [independent.inverse_cdf(float(x)) for x in u],
        rtol=1e-11,
    )


def _check_data_distribution() -> Check:
    sets = glyphs(1000), glyphs(1000, seed=1, split="test")
    mean, other = (from_bytes(x.images, np.float64).mean(axis=(1, 2, 3)) for x in sets)
    return on_average(
        "E[mean pixel], from 1000 training images",
        mean.mean(),
        "from 1000 other images of the same distribution",
        other.mean(),
        math.sqrt((mean.var() + other.var()) / 1000),
    )


def _table_data_distribution() -> str:
    x = from_bytes(glyphs(1000).images, np.float64)
    rows = [(n, x[:n].mean(), x[:n].var()) for n in (10, 100, 1000)]
    return table(("images", "mean pixel", "variance"), rows)


def _check_forward_step() -> Check:
    beta, before, threshold, n = 0.3, 0.8, 0.5, 200_000
    diffusion = GaussianDiffusion(NoiseSchedule.from_beta([beta]))
    x = np.full((n, 1, 1, 1), before)
    after = diffusion.q_step(x, 1, independent.normals(3, *x.shape))
    p = NormalDist(math.sqrt(1 - beta) * before, math.sqrt(beta)).cdf(threshold)
    return on_average(
        "P(x_t < 0.5) after x_{t−1} = 0.8, β = 0.3, from 200,000 steps",
        (after < threshold).mean(),
        "the distribution function of 𝒩(√0.7 · 0.8, 0.3), statistics.NormalDist",
        p,
        math.sqrt(p * (1 - p) / n),
    )


def _table_forward_step() -> str:
    beta = NoiseSchedule.linear().beta
    rows = [(t, beta[t], math.sqrt(1 - beta[t]), math.sqrt(beta[t])) for t in (1, 10, 500, 1000)]
    return table(("t, linear chain", "β_t", "√(1−β_t)", "√β_t"), rows)


def _check_pixels() -> Check:
    x = np.random.Generator(np.random.Philox(4)).uniform(-1.1, 1.1, 5000)
    levels = np.array([float(Fraction(2 * k, 255) - 1) for k in range(256)])
    nearest = np.abs(x[:, None] - levels).argmin(axis=1)
    scaled = from_bytes(np.arange(256, dtype=np.uint8), np.float64)
    there_and_back = to_bytes(from_bytes(np.arange(256, dtype=np.uint8)))
    return exactly(
        "256 levels scaled, 256 there and back in float32, 5000 numbers turned into bytes",
        np.concatenate([scaled, there_and_back, to_bytes(x)]),
        "fractions 2k/255 − 1, and the nearest of them by search",
        np.concatenate([levels, np.arange(256), nearest]),
    )


def _table_pixels() -> str:
    levels = np.arange(256, dtype=np.uint8)
    x = from_bytes(levels)
    cut = ((x + 1) * np.float32(127.5)).astype(np.uint8)
    rows = [
        ("rounded", int((to_bytes(x) == levels).sum())),
        ("cut off, as often copied", int((cut == levels).sum())),
    ]
    return table(("float32 to byte", "levels that survive, of 256"), rows)


def _check_variance_preserving() -> Check:
    n, steps = 50_000, 40
    diffusion = GaussianDiffusion(NoiseSchedule.from_beta([0.1] * steps))
    x = np.sign(independent.normals(5, n, 1, 1, 1))
    for t in range(1, steps + 1):
        x = diffusion.q_step(x, t, independent.normals(100 + t, *x.shape))
    return on_average(
        "Var[x_40] of coin flips ±1 after 40 steps of β = 0.1",
        (x * x).mean(),
        "v ← (1−β) v + β leaves v = 1 as it is",
        1.0,
        math.sqrt(2.0 / n),
    )


def _table_variance_preserving() -> str:
    beta = NoiseSchedule.linear().beta
    _, noise = independent.walk(beta[1:])
    signal = np.cumprod(1 - beta)[1:]
    grown = 1 + np.cumsum(beta)[1:]
    rows = [
        (t, signal[t - 1] + noise[t - 1], grown[t - 1], math.sqrt(grown[t - 1]))
        for t in (1, 250, 500, 1000)
    ]
    return table(("t, linear chain", "Var[x_t], scaled", "not scaled", "std, not scaled"), rows)


def _check_pure_noise() -> Check:
    product = math.prod(1 - independent.linear_beta(t, 1000) for t in range(1, 1001))
    return exactly(
        "ᾱ_1000 of the linear schedule, what is left of the image's variance",
        NoiseSchedule.linear().alpha_bar[-1],
        "the product of a thousand fractions",
        float(product),
    )


def _table_pure_noise() -> str:
    schedules = {
        "linear 1000": NoiseSchedule.linear(),
        "linear 4000": NoiseSchedule.linear(4000),
        "cosine 1000": NoiseSchedule.cosine(),
        "cosine 4000": NoiseSchedule.cosine(4000),
        "the β of 1000 steps, cut at 300": NoiseSchedule.from_beta(np.linspace(1e-4, 0.02, 300)),
    }
    rows = [(name, s.alpha_bar[-1], math.sqrt(s.alpha_bar[-1])) for name, s in schedules.items()]
    return table(("schedule", "ᾱ_T", "√ᾱ_T, image left in x_T"), rows)


CONCEPTS = (
    Concept(
        number=1,
        name="inverse-cdf",
        title="Drawing from a Gaussian by inverting its distribution function",
        text="""To sample is to turn random bits into a random x. A computer draws u evenly from
        (0, 1). Φ(x), the probability of being below x, climbs from 0 to 1, steeply where the
        density is high. Read backwards, equal slices of u land densely where Φ is steep: x =
        Φ⁻¹(u) has the density φ. This works for a distribution that we can write down. For
        images of birds nobody can, and that is the problem which diffusion solves.""",
        equation="u ~ U(0, 1),   x = Φ⁻¹(u)   ⇒   P(x ≤ a) = P(u ≤ Φ(a)) = Φ(a)",
        functions=(inverse_cdf,),
        check=_check_inverse_cdf,
        figure="inverse-cdf",
    ),
    Concept(
        number=2,
        name="data-distribution",
        title="The data have a distribution that nobody knows",
        text="""A data set is a set of draws from p(x_0), a density over all possible images. We
        have no formula for it, only the draws; yet a mean over the draws comes close to the mean
        over p. A generative model is a way to draw more. Diffusion uses two processes: a fixed
        one turns images into noise, and a learnt one turns noise into images.""",
        equation="x_0 ~ p(x_0) unknown,   E_p[f(x_0)] ≈ (1/n) Σ_i f(x_0⁽ⁱ⁾)",
        functions=(glyphs,),
        check=_check_data_distribution,
        table=_table_data_distribution,
        figure="data",
    ),
    Concept(
        number=3,
        name="forward-step",
        title="One step of the forward process",
        text="""Each step keeps a little less of the image and adds a little Gaussian noise. The
        variance β_t of the added noise is small and fixed in advance; nothing is learnt here.""",
        equation="""x_t = √(1−β_t) x_{t−1} + √β_t ε,   ε ~ 𝒩(0, I)
        q(x_t | x_{t−1}) = 𝒩(√(1−β_t) x_{t−1}, β_t I)""",
        functions=(GaussianDiffusion.q_step,),
        check=_check_forward_step,
        table=_table_forward_step,
    ),
    Concept(
        number=4,
        name="pixels",
        title="Pixels to [−1, 1] and back",
        text="""The noise is centred on 0 and has variance 1, so the image should be of that size
        too: bytes 0 … 255 are scaled to [−1, 1]. The way back must round to the nearest byte.
        Cutting off the fraction, as a much copied script does, loses a quarter of the grey
        levels in float32 and darkens every sample by half a level.""",
        equation="x = byte/127.5 − 1,   byte = round(127.5 (x + 1))",
        functions=(from_bytes, to_bytes),
        check=_check_pixels,
        table=_table_pixels,
    ),
    Concept(
        number=5,
        name="variance-preserving",
        title="Why the image is scaled by √(1−β)",
        text="""Variances of independent things add, and scaling by c multiplies a variance by
        c². If x_{t−1} has variance 1, then x_t has (1−β) + β = 1 again: the network sees inputs
        of one size at every t. Without the factor the variance would grow with every step.""",
        equation="Var[x_t] = (1−β_t) Var[x_{t−1}] + β_t = 1   if Var[x_{t−1}] = 1",
        functions=(GaussianDiffusion.q_step,),
        check=_check_variance_preserving,
        table=_table_variance_preserving,
    ),
    Concept(
        number=6,
        name="pure-noise",
        title="After T steps only noise is left",
        text="""After T = 1000 steps x_T is a standard Gaussian, except for a trace √ᾱ_T of the
        image, whatever the image was. That is why generation can start from x_T ~ 𝒩(0, I), which
        is easy to draw. Cut the chain short without raising β, and more than a trace is left.""",
        equation="x_T → 𝒩(0, I),   ᾱ_T = Π_t (1−β_t) → 0",
        functions=(NoiseSchedule.linear, NoiseSchedule.cosine),
        check=_check_pure_noise,
        table=_table_pure_noise,
        figure="forward-densities",
    ),
)
