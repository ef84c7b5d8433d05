"""Chains and schedules: concepts 7 to 11."""

from __future__ import annotations

import math

import numpy as np

from tinyddpm.concepts import independent
from tinyddpm.concepts.concept import Check, Concept, exactly, on_average, table
from tinyddpm.data.glyphs import glyphs
from tinyddpm.data.pixels import from_bytes
from tinyddpm.diffusion.gaussian import GaussianDiffusion
from tinyddpm.diffusion.schedule import NoiseSchedule
from tinyddpm.diffusion.telescoping import forward_path
from tinyddpm.figures.strips import noised


def _path() -> tuple[independent.Floats, ...]:
    diffusion = GaussianDiffusion(NoiseSchedule.from_beta([0.3, 0.3, 0.3]))
    path = forward_path(diffusion, independent.normals(7, 50_000, 1, 1, 1))
    return tuple(x.ravel() for x in path[1:])


def _correlation(a: independent.Floats, b: independent.Floats) -> float:
    return float(np.corrcoef(a, b)[0, 1])


def _partial_correlation() -> float:
    """Of x_1 and x_3 given x_2: the correlation of what a line through x_2 leaves of them."""
    before, now, after = _path()
    rests = [x - (x @ now) / (now @ now) * now for x in (before, after)]
    return _correlation(*rests)


def _check_markov() -> Check:
    return on_average(
        "correlation of x_1 and x_3 once x_2 is known, on 50,000 paths",
        _partial_correlation(),
        "none: x_3 depends on the past through x_2 alone",
        0.0,
        50_000**-0.5,
    )


def _table_markov() -> str:
    before, _, after = _path()
    rows = [
        ("x_1, x_3", _correlation(before, after)),
        ("x_1, x_3 given x_2", _partial_correlation()),
    ]
    return table(("of", "correlation"), rows)


def _check_closed_form() -> Check:
    schedule = NoiseSchedule.linear()
    times = np.arange(1, schedule.T + 1)
    one = np.ones((schedule.T, 1, 1, 1))
    diffusion = GaussianDiffusion(schedule)
    signal, noise = diffusion.q_sample(one, times, 0 * one), diffusion.q_sample(0 * one, times, one)
    walked_signal, walked_variance = independent.walk(schedule.beta[1:])
    return exactly(
        "signal and noise of x_t in one jump, t = 1 … 1000",
        np.concatenate([signal.ravel(), noise.ravel()]),
        "step by step, merging two Gaussians at each: v ← (1−β) v + β",
        np.concatenate([walked_signal, np.sqrt(walked_variance)]),
    )


def _table_closed_form() -> str:
    schedule = NoiseSchedule.linear()
    signal, noise = np.sqrt(schedule.alpha_bar), np.sqrt(schedule.one_minus_alpha_bar)
    rows = [(t, signal[t], noise[t], schedule.snr[t]) for t in (1, 10, 100, 250, 500, 750, 1000)]
    return table(("t, linear chain", "√ᾱ_t", "√(1−ᾱ_t)", "ᾱ_t/(1−ᾱ_t)"), rows)


def _check_linear() -> Check:
    ours, others = [], []
    for T in (1000, 4000):
        schedule = NoiseSchedule.linear(T)
        beta = [independent.linear_beta(t, T) for t in range(1, T + 1)]
        logs = [math.log1p(-b) for b in beta]
        ours += [schedule.beta[1:], schedule.alpha_bar[[T // 4, T // 2, T]]]
        others += [np.array([float(b) for b in beta])]
        others += [np.exp([math.fsum(logs[:t]) for t in (T // 4, T // 2, T)])]
    return exactly(
        "β_t, and ᾱ at T/4, T/2 and T, for T = 1000 and 4000",
        np.concatenate(ours),
        "β in fractions, ᾱ = exp Σ log(1−β)",
        np.concatenate(others),
    )


def _check_cosine() -> Check:
    ours, others = [], []
    for T in (1000, 4000):
        ours += NoiseSchedule.cosine(T).alpha_bar[1:T].tolist()
        others += [independent.cosine_alpha_bar(t, T) for t in range(1, T)]
    return exactly(
        "ᾱ_t, t = 1 … T − 1, the product of 1−β, for T = 1000 and 4000",
        ours,
        "the squared cosine itself",
        others,
        rtol=1e-8,
    )


def _table_schedule(schedule: NoiseSchedule) -> str:
    T = schedule.T
    rows = [
        (t, schedule.beta[t], schedule.alpha_bar[t], math.sqrt(schedule.alpha_bar[t]))
        for t in (1, T // 4, T // 2, 3 * T // 4, T - 1, T)
    ]
    return table(("t", "β_t", "ᾱ_t", "√ᾱ_t"), rows)


def _check_figures() -> Check:
    x0 = from_bytes(glyphs(100).images, np.float64)
    times = (100, 300, 500, 700, 900)
    noisy = noised(x0, NoiseSchedule.cosine(), times)
    alpha_bar = np.array([independent.cosine_alpha_bar(t, 1000) for t in times])
    square = (x0 * x0).sum()
    return on_average(
        "how much of 100 digits is in their noised images, by regression on the clean ones",
        [(x0 * x).sum() / square for x in noisy],
        "√ᾱ_t from the squared cosine",
        np.sqrt(alpha_bar),
        np.sqrt((1 - alpha_bar) / square),
    )


def _table_figures() -> str:
    rows: list[tuple[str | int, ...]] = []
    for name, schedule in (("linear", NoiseSchedule.linear()), ("cosine", NoiseSchedule.cosine())):
        first = [int(np.argmax(schedule.alpha_bar < level)) for level in (0.9, 0.5, 0.1, 0.01)]
        rows.append((name, *first))
    return table(("first t with ᾱ_t below", "0.9", "0.5", "0.1", "0.01"), rows)


CONCEPTS = (
    Concept(
        number=7,
        name="markov",
        title="The schedule, the Markov property and the joint distribution",
        text="""β_1 … β_T is the variance schedule. Each x_t is made from x_{t−1} alone: given
        the present, the past says nothing more about the future. So the density of a whole path
        is a product of one factor a step. The past and the future are correlated all the same,
        through the present; take the present away and the correlation is gone.""",
        equation="q(x_1 … x_T | x_0) = Π_t q(x_t | x_{t−1})",
        functions=(forward_path,),
        check=_check_markov,
        table=_table_markov,
    ),
    Concept(
        number=8,
        name="closed-form",
        title="All steps in one: merging Gaussians",
        text="""√a ε₁ + √b ε₂ with independent ε is one Gaussian of variance a + b. Merge the
        noise of all steps in this way and x_t follows from x_0 in one jump. Training needs this:
        it picks any t without walking there.""",
        equation="""√a ε₁ + √b ε₂ ~ 𝒩(0, (a + b) I),   α_t = 1−β_t,   ᾱ_t = α_1 α_2 ⋯ α_t
        x_t = √ᾱ_t x_0 + √(1−ᾱ_t) ε,   q(x_t | x_0) = 𝒩(√ᾱ_t x_0, (1−ᾱ_t) I)""",
        functions=(GaussianDiffusion.q_sample,),
        check=_check_closed_form,
        table=_table_closed_form,
    ),
    Concept(
        number=9,
        name="linear",
        title="The linear schedule",
        text="""Ho et al. let β rise evenly from 0.0001 to 0.02 in 1000 steps. For another T both
        ends are scaled by 1000/T, so that the same noise is reached at the end; with T ≤ 20 the
        last β would not be below 1. Half of the image's variance is gone by t = 260, and the
        last third of the chain is hardly more than noise.""",
        equation="β_t = (1000/T) (10⁻⁴ + (t−1)/(T−1) · (0.02 − 10⁻⁴))",
        functions=(NoiseSchedule.linear,),
        check=_check_linear,
        table=lambda: _table_schedule(NoiseSchedule.linear()),
        figure="schedules",
    ),
    Concept(
        number=10,
        name="cosine",
        title="The cosine schedule",
        text="""Nichol & Dhariwal choose ᾱ rather than β: it falls like a squared cosine, almost
        straight in the middle and gently at both ends. The offset s = 0.008 keeps β_1 from
        vanishing. β is cut at 0.999, which touches the very last step alone, and ᾱ is then the
        product of what was cut, not the cosine.""",
        equation="""ᾱ_t = f(t)/f(0),   f(t) = cos²((t/T + s)/(1 + s) · π/2),   s = 0.008
        β_t = min(1 − ᾱ_t/ᾱ_{t−1}, 0.999)""",
        functions=(NoiseSchedule.cosine,),
        check=_check_cosine,
        table=lambda: _table_schedule(NoiseSchedule.cosine()),
        figure="schedules",
    ),
    Concept(
        number=11,
        name="noising-figures",
        title="The figures: digits on their way into noise",
        text="""The same digits under both schedules, at the same t. Under the linear schedule
        they are gone by the middle; under the cosine they fade evenly, so that every t teaches
        the network something.""",
        equation="x_t = √ᾱ_t x_0 + √(1−ᾱ_t) ε   for t = 0, T/10, … T",
        functions=(noised,),
        check=_check_figures,
        table=_table_figures,
        figure="noised-strips",
    ),
)
