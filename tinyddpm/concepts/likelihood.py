"""Beyond the lecture, scores, guidance and bits: concepts 38 to 41."""

from __future__ import annotations

import math
from functools import partial

import numpy as np

from tinyddpm.arrays import Array, IntArray
from tinyddpm.concepts import independent
from tinyddpm.concepts.concept import Check, Concept, exactly, on_average, table
from tinyddpm.diffusion import bound
from tinyddpm.diffusion.affine_chain import affine_chain
from tinyddpm.diffusion.gaussian import GaussianDiffusion
from tinyddpm.diffusion.guidance import guided_model
from tinyddpm.diffusion.oracles import GaussianOracle, MixtureOracle
from tinyddpm.diffusion.schedule import NoiseSchedule
from tinyddpm.diffusion.score import score_from_eps, x0_from_score

_COSINE = NoiseSchedule.cosine()
_KINDS = ((0.7, -0.6, 0.02), (0.3, 0.5, 0.1))  # weight, mean, variance of a mixture
_PLACES = (-1.2, -0.5, 0.0, 0.4, 1.0)


def _log_mixture(x: float, t: int, kinds: tuple[tuple[float, float, float], ...]) -> float:
    """log q(x_t) of the mixture."""
    alpha_bar = independent.cosine_alpha_bar(t, 1000)
    parts = [
        w * float(independent.density(x, math.sqrt(alpha_bar) * m, alpha_bar * s + 1 - alpha_bar))
        for w, m, s in kinds
    ]
    return math.log(math.fsum(parts))


def _mixture_oracle() -> MixtureOracle:
    weights, means, variances = np.array(_KINDS).T
    return MixtureOracle(_COSINE, weights, means.reshape(2, 1, 1, 1), variances)


def _column(values: tuple[float, ...]) -> Array:
    return np.array(values).reshape(-1, 1, 1, 1)


def _check_score() -> Check:
    ours, others, oracle = [], [], _mixture_oracle()
    for t in (50, 300, 700):
        x = _column(_PLACES)
        eps = oracle(x, np.full(len(x), t))
        ours += score_from_eps(_COSINE, eps, t).ravel().tolist()
        others += [
            independent.slope(partial(_log_mixture, t=t, kinds=_KINDS), place, 1e-3)
            for place in _PLACES
        ]
    return exactly(
        "−ε*/√(1−ᾱ_t) at five places and three times, data of two kinds",
        ours,
        "the slope of log q(x_t), by differences of the mixture's density",
        others,
        rtol=1e-7,
    )


def _table_score() -> str:
    oracle, rows = _mixture_oracle(), []
    for t in (50, 300, 700):
        eps = oracle(_column(_PLACES), np.full(len(_PLACES), t))
        rows.append((t, *score_from_eps(_COSINE, eps, t).ravel().tolist()))
    return table(("score at t, cosine chain", *(f"x = {place}" for place in _PLACES)), rows)


def _check_snr() -> Check:
    ours, others = [], []
    for schedule in (NoiseSchedule.linear(), NoiseSchedule.log_snr_linear(1000)):
        signals, variances = independent.walk(schedule.beta[1:])
        for t in (2, 10, 500, 1000):
            ours.append(bound.snr_weights(schedule)[t])
            posteriors = [
                independent.bayes(signals[t - 2] * x0, variances[t - 2], 1 - schedule.beta[t], 0.0)
                for x0 in (0.0, 1.0)
            ]
            (mean, spread), (other_mean, _) = posteriors
            others.append(independent.kl(mean, spread, other_mean, spread))
    return exactly(
        "½ (SNR_{t−1} − SNR_t) at t = 2, 10, 500, 1000, for two schedules",
        ours,
        "KL of two posteriors whose x_0 differ by 1, by integration",
        others,
        rtol=1e-6,
    )


def _table_snr() -> str:
    schedules = {
        "linear": NoiseSchedule.linear(),
        "cosine": _COSINE,
        "log-SNR linear": NoiseSchedule.log_snr_linear(1000),
    }
    times = (1, 250, 500, 750, 999)
    rows = [(name, *(s.log_snr[t] for t in times)) for name, s in schedules.items()]
    return table(("log SNR at t", *map(str, times)), rows)


def _conditional(xt: Array, t: IntArray, labels: IntArray) -> Array:
    """The exact ε of either kind alone, and of both for label 2."""
    both = _mixture_oracle()(xt, t)
    alone = [GaussianOracle(_COSINE, mean, variance)(xt, t) for _, mean, variance in _KINDS]
    chosen: Array = np.choose(labels.reshape(-1, 1, 1, 1), [*alone, both])
    return chosen


def _guided_score(weight: float, t: int) -> list[float]:
    x = _column(_PLACES)
    kind = np.ones(len(x), np.int64)
    model = guided_model(_conditional, kind, null_label=2, weight=weight)
    score: list[float] = score_from_eps(_COSINE, model(x, np.full(len(x), t)), t).ravel().tolist()
    return score


def _check_guidance() -> Check:
    ours, others, kind = [], [], ((1.0, *_KINDS[1][1:]),)
    for weight, t in ((0.0, 300), (2.0, 300), (2.0, 700), (-1.0, 300)):
        ours += _guided_score(weight, t)

        def log_sharpened(x: float, w: float = weight, t: int = t) -> float:
            return (1 + w) * _log_mixture(x, t, kind) - w * _log_mixture(x, t, _KINDS)

        others += [independent.slope(log_sharpened, place, 1e-3) for place in _PLACES]
    return exactly(
        "scores of the guided model, w = 0, 2 and −1, at five places",
        ours,
        "the slope of (1+w) log q(x_t | c) − w log q(x_t), by differences of densities",
        others,
        rtol=1e-6,
    )


def _table_guidance() -> str:
    rows = [(w, *_guided_score(w, 300)) for w in (-1.0, 0.0, 1.0, 3.0)]
    return table(("w, score at t = 300, cosine", *(f"x = {place}" for place in _PLACES)), rows)


_BETA = (0.05, 0.1, 0.2, 0.4)


def _check_bits() -> Check:
    n, levels = 20_000, np.array([100, 120, 130, 150])
    diffusion = GaussianDiffusion(NoiseSchedule.from_beta(_BETA), variance="beta")
    model = GaussianOracle(diffusion.schedule, 0.0, 0.3)
    x0 = np.broadcast_to((levels / 127.5 - 1).reshape(1, 2, 2, 1), (n, 2, 2, 1))
    bits = diffusion.vlb(model, x0, clip=False, seed=41).bits_per_dim.sum(axis=1)
    terms = affine_chain(diffusion, model, (2, 2, 1)).bound_terms(x0[:1])
    # A bin is narrow beside σ_1: its probability is density × 2/255, up to 10⁻⁴ of a nat.
    nats = float(terms.sum()) - 4 * math.log(2 / 255)
    return on_average(
        "the bound on an image of four pixels in bits/dim, the mean of 20,000 estimates",
        bits.mean(),
        "its terms in closed form, plus 4 ln(255/2) nats for the bins, over 4 ln 2",
        nats / (4 * math.log(2)),
        bits.std() / math.sqrt(n),
    )


def _table_bits() -> str:
    diffusion = GaussianDiffusion(NoiseSchedule.linear(), variance="beta_tilde")
    model = GaussianOracle(diffusion.schedule, 0.0, 0.05)
    chain = affine_chain(diffusion, model, (1, 1, 1))
    x0 = math.sqrt(0.05) * independent.normals(41, 1000, 1, 1, 1)
    bins = math.log(2 / 255)
    bound_nats = chain.bound_terms(x0).sum(axis=0).mean() - bins
    exact_nats = -chain.log_likelihood(x0).mean() - bins
    entropy = 0.5 * math.log(2 * math.pi * math.e * 0.05) - bins
    rows = [
        ("entropy of 𝒩(0, 0.05) in bins of 2/255", entropy, entropy / math.log(2)),
        ("exact −log p of the chain, 1000 draws", exact_nats, exact_nats / math.log(2)),
        ("bound, 1000 draws", bound_nats, bound_nats / math.log(2)),
        ("256 levels, all alike", math.log(256), 8.0),
    ]
    return table(("one pixel", "nats", "bits/dim"), rows)


CONCEPTS = (
    Concept(
        number=38,
        name="score",
        title="The score: which way is more likely",
        text="""The score is the slope of the log-density: it points to where x_t is more likely.
        The best prediction of the noise is the score times a negative factor. So a network that
        predicts noise has learnt the gradient of log q(x_t), and sampling climbs it with
        noise.""",
        equation="""∇ log q(x_t) = −E[ε | x_t]/√(1−ᾱ_t)
        E[x_0 | x_t] = (x_t + (1−ᾱ_t) ∇ log q(x_t))/√ᾱ_t   (Tweedie)""",
        functions=(score_from_eps, x0_from_score, MixtureOracle),
        check=_check_score,
        table=_table_score,
    ),
    Concept(
        number=39,
        name="snr",
        title="The signal-to-noise ratio is all that counts",
        text="""In terms of x̂_0 each term of the bound is a squared error times how much of the
        signal-to-noise ratio its step loses. The sum over t then hardly depends on how the ratio
        falls, only on where it begins and ends. A schedule is a curve of log SNR.""",
        equation="""SNR_t = ᾱ_t/(1−ᾱ_t)
        L_{t−1} = ½ (SNR_{t−1} − SNR_t) ‖x_0 − x̂_0‖²   (σ² = β̃)""",
        functions=(bound.snr_weights,),
        check=_check_snr,
        table=_table_snr,
        figure="snr",
    ),
    Concept(
        number=40,
        name="guidance",
        title="Classifier-free guidance",
        text="""A network that was trained with and without labels can predict the noise in both
        ways. Going from the prediction without the label to the one with it, and beyond, sharpens
        what makes the class a class: fewer kinds of samples, each more typical. w = 0 is the
        conditional model, w = −1 ignores the class.""",
        equation="""ε̃ = (1+w) ε(x_t, c) − w ε(x_t, ∅)   ⇔   q(x_t | c)^{1+w} q(x_t)^{−w}""",
        functions=(guided_model,),
        check=_check_guidance,
        table=_table_guidance,
        figure="guidance",
    ),
    Concept(
        number=41,
        name="bits-per-dim",
        title="Bits per dimension",
        text="""A bound in nats per image depends on the image's size. Divided by the number of
        values D and by ln 2 it says how many bits a value would take in a file compressed with
        the model; stored plainly it takes 8.""",
        equation="bits/dim = (L_0 + L_1 + … + L_T)/(D ln 2)",
        functions=(GaussianDiffusion.vlb, bound.BoundTerms),
        check=_check_bits,
        table=_table_bits,
    ),
)
