"""Beyond the lecture, training and sampling: concepts 34 to 37."""

from __future__ import annotations

import math
from functools import partial
from itertools import pairwise

import numpy as np

from tinyddpm.arrays import Array
from tinyddpm.concepts import independent
from tinyddpm.concepts.concept import Check, Concept, exactly, on_average, table
from tinyddpm.diffusion.gaussian import GaussianDiffusion
from tinyddpm.diffusion.oracles import GaussianOracle
from tinyddpm.diffusion.schedule import NoiseSchedule
from tinyddpm.diffusion.timestep_sampling import SecondMomentTimes

_LOSSES = np.array([0.0, 9.0, 2.0, 0.5, 0.1])  # at t = 1 … 4


def _taught() -> SecondMomentTimes:
    """A sampler that has seen ten losses at each of four times: L_t and, now and then, 3 L_t."""
    times = SecondMomentTimes(4)
    for i in range(10):
        factor = 3.0 if i % 5 == 0 else 1.0
        times.update(np.arange(1, 5), factor * _LOSSES[1:])
    return times


def _check_importance() -> Check:
    n, sampler = 100_000, _taught()
    t, weights = sampler.draw(0, step=1, samples=np.arange(n))
    weighted = weights * _LOSSES[t]
    roots = [math.sqrt((8 * x * x + 2 * 9 * x * x) / 10) for x in _LOSSES[1:].tolist()]
    p = [0.999 * root / sum(roots) + 0.001 / 4 for root in roots]
    return on_average(
        "the mean weighted loss of 100,000 draws, and how often each of four times was drawn",
        [weighted.mean(), *((t == time).mean() for time in range(1, 5))],
        "the plain mean of the four losses, and √E[L²] by hand, normalised, with its floor",
        [math.fsum(_LOSSES) / 4, *p],
        [weighted.std() / math.sqrt(n), *(math.sqrt(x * (1 - x) / n) for x in p)],
    )


def _table_importance() -> str:
    p = _taught().probabilities
    rows = [(t, _LOSSES[t], p[t], 1 / (4 * p[t])) for t in range(1, 5)]
    return table(("t", "loss", "p_t", "weight 1/(T p_t)"), rows)


def _check_respacing() -> Check:
    schedule = NoiseSchedule.linear()
    short = GaussianDiffusion(schedule).respace(10)
    kept = [0, *(round(1 + 999 * k / 9) for k in range(10))]
    products = [
        math.prod(1 - float(independent.linear_beta(t, 1000)) for t in range(a + 1, b + 1))
        for a, b in pairwise(kept)
    ]
    return exactly(
        "the times kept of 1000 for 10 steps, and their β",
        [*short.timesteps, *short.schedule.beta[1:]],
        "every 111th, and 1 − the product of the α between two of them",
        [*kept, *(1 - product for product in products)],
        rtol=1e-11,
    )


def _table_respacing() -> str:
    short = GaussianDiffusion(NoiseSchedule.linear()).respace(10)
    rows = [
        (k, int(short.timesteps[k]), short.schedule.beta[k], short.schedule.alpha_bar[k])
        for k in range(1, 11)
    ]
    return table(("step", "t of 1000, linear", "β", "ᾱ"), rows)


def _ddim_ends(steps: int) -> tuple[Array, Array]:
    """Where DDIM leads from four x_T for data 𝒩(0.2, 0.25), and where the exact flow does."""
    schedule = NoiseSchedule.cosine()
    oracle = GaussianOracle(schedule, 0.2, 0.25)
    x_T = np.array([-2.0, -0.5, 0.7, 1.5]).reshape(4, 1, 1, 1)
    chain = GaussianDiffusion(schedule).respace(steps)
    *_, last = chain.ddim_steps_from(oracle, x_T, clip=False)
    signals, variances = independent.walk(schedule.beta[1:])
    spread = math.sqrt(signals[-1] ** 2 * 0.25 + variances[-1])
    exact = 0.2 + 0.5 * (x_T - signals[-1] * 0.2) / spread
    return last.x.ravel(), exact.ravel()


def _check_ddim() -> Check:
    ours, exact = _ddim_ends(1000)
    return exactly(
        "four ends of DDIM, η = 0, 1000 steps, data 𝒩(0.2, 0.25)",
        ours,
        "the solution of its differential equation: each x_T keeps its distance in σ from the mean",
        exact,
        rtol=0.0,
        atol=2e-3,  # the error of a thousand Euler steps
    )


def _table_ddim() -> str:
    rows = []
    for steps in (10, 30, 100, 300, 1000):
        ours, exact = _ddim_ends(steps)
        rows.append((steps, float(ours[0]), float(exact[0]), float(np.abs(ours - exact).max())))
    return table(
        ("steps of 1000, cosine", "x_0 from x_T = −2", "exact", "largest error of four"), rows
    )


def _check_predictions() -> Check:
    schedule = NoiseSchedule.cosine()
    x0, eps = independent.normals(37, 3, 1, 1, 1), independent.normals(38, 3, 1, 1, 1)
    diffusion = GaussianDiffusion(schedule, "v")
    ours, others = [], []
    for t in (10, 500, 990):
        v = diffusion.velocity(x0, t, eps)
        xt = diffusion.q_sample(x0, t, eps)
        ours += [v, diffusion.predict_x0(xt, t, v)]
        angle = math.acos(math.sqrt(independent.cosine_alpha_bar(t, 1000)))
        rate = [
            independent.slope(partial(_on_circle, x0=x, eps=e), angle, 1e-3)
            for x, e in zip(x0.ravel().tolist(), eps.ravel().tolist(), strict=True)
        ]
        others += [np.array(rate), x0.ravel()]
    return exactly(
        "v at t = 10, 500 and 990, and the x_0 that it stands for",
        np.concatenate([x.ravel() for x in ours]),
        "d/dφ of cos φ x_0 + sin φ ε by differences, φ = arccos √ᾱ_t; and x_0",
        np.concatenate(others),
        rtol=1e-7,
    )


def _on_circle(angle: float, x0: float, eps: float) -> float:
    """x_t as a point on a circle: an image at angle 0, noise at a right angle."""
    return math.cos(angle) * x0 + math.sin(angle) * eps


def _table_predictions() -> str:
    schedule = NoiseSchedule.cosine()
    signal, noise = np.sqrt(schedule.alpha_bar), np.sqrt(schedule.one_minus_alpha_bar)
    rows = [(t, noise[t] / signal[t], 1, noise[t]) for t in (1, 250, 500, 750, 990)]
    return table(("t, cosine chain", "error of x̂_0 per error of ε", "of x_0", "of v"), rows)


CONCEPTS = (
    Concept(
        number=34,
        name="importance",
        title="Drawing t where the loss is large",
        text="""The terms of the bound differ by orders of magnitude over t. Drawing t in
        proportion to the root of the mean square of its last ten losses makes the estimate less
        noisy. Dividing each loss by how much its t was favoured keeps the estimate unbiased. Until
        every t has its ten losses, t is drawn evenly.""",
        equation="p_t ∝ √E[L_t²],   E_{t~p}[L_t/(T p_t)] = (1/T) Σ_t L_t",
        functions=(SecondMomentTimes,),
        check=_check_importance,
        table=_table_importance,
        figure="time-probabilities",
    ),
    Concept(
        number=35,
        name="respacing",
        title="Fewer steps: respacing",
        text="""A network trained on 1000 steps can walk back in fifty. Keep some of the times,
        and choose β such that ᾱ is what it was there; the network is asked at the t of the long
        chain. Forgetting either (an old β, a new t) is a bug that has been shipped.""",
        equation="β_k = 1 − ᾱ_{S_k}/ᾱ_{S_{k−1}},   0 = S_0 < S_1 < … < S_K = T",
        functions=(GaussianDiffusion.respace,),
        check=_check_respacing,
        table=_table_respacing,
    ),
    Concept(
        number=36,
        name="ddim",
        title="DDIM: the way back without noise",
        text="""The marginals q(x_t | x_0) do not say how much noise a step back must add. With
        none (η = 0) x_T alone decides the image, and the steps follow a smooth curve, so that
        few are enough and the walk can be reversed. η = 1 is ancestral sampling with β̃.""",
        equation="""x_{t−1} = √ᾱ_{t−1} x̂_0 + √(1−ᾱ_{t−1}−σ_t²) ε̂ + σ_t z,   σ_t = η √β̃_t""",
        functions=(GaussianDiffusion.ddim_mean_variance, GaussianDiffusion.ddim_steps_from),
        check=_check_ddim,
        table=_table_ddim,
        figure="ddim-paths",
    ),
    Concept(
        number=37,
        name="v-prediction",
        title="Predicting x_0 or v instead of ε",
        text="""ε, x_0 and v say the same thing about x_t, but errors count differently. An error
        of ε is blown up at large t when x̂_0 is made of it; one of x_0 is not, but says little
        about small noise. (x_t, v) is (x_0, ε) turned by an angle, and v is how x_t changes with
        that angle: an error of v is never blown up.""",
        equation="""v = √ᾱ_t ε − √(1−ᾱ_t) x_0
        x̂_0 = (x_t − √(1−ᾱ_t) ε)/√ᾱ_t = √ᾱ_t x_t − √(1−ᾱ_t) v""",
        functions=(GaussianDiffusion.velocity, GaussianDiffusion.predict_x0),
        check=_check_predictions,
        table=_table_predictions,
    ),
)
