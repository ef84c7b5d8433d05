"""The score ∇ log q(x_t), and what it says about ε and x_0.

Given x_0, q(x_t | x_0) is Gaussian and its score is the noise, scaled:

    ∇ log q(x_t | x_0) = −(x_t − √ᾱ_t x_0)/(1 − ᾱ_t) = −ε/√(1 − ᾱ_t)

The mean of this over all x_0 that may lie behind x_t is the score of q(x_t) itself (Vincent 2011,
"A connection between score matching and denoising autoencoders"), so that the best predictions of
ε and of x_0 are the score in other words (Tweedie's formula; Luo 2022, arXiv 2208.11970, eq. 133):

    s = −ε̂/√(1 − ᾱ_t)          ε̂ = −√(1 − ᾱ_t) s
    s = (√ᾱ_t x̂_0 − x_t)/(1 − ᾱ_t)      x̂_0 = (x_t + (1 − ᾱ_t) s)/√ᾱ_t

Everywhere below images are (N, H, W, C) and ``t`` is the paper's t of the schedule, from 1 to T: an
integer, or an (N,) array with one for each image. Anything else raises a UsageError.
"""

from __future__ import annotations

import numpy as np

from tinyddpm.arrays import Array, IntArray
from tinyddpm.diffusion.arguments import check_images, check_times
from tinyddpm.diffusion.per_image import per_image
from tinyddpm.diffusion.sampling import Model
from tinyddpm.diffusion.schedule import NoiseSchedule


def score_from_eps(schedule: NoiseSchedule, eps: Array, t: int | IntArray) -> Array:
    """Return the score s = −ε/√(1 − ᾱ_t) (Tweedie's formula; Luo 2022)."""
    check_images(eps=eps)
    _, noise = _rates(schedule, eps, t)
    score: Array = -eps / noise
    return score


def eps_from_score(schedule: NoiseSchedule, score: Array, t: int | IntArray) -> Array:
    """Return the noise ε = −√(1 − ᾱ_t) s."""
    check_images(score=score)
    _, noise = _rates(schedule, score, t)
    eps: Array = -noise * score
    return eps


def score_from_x0(schedule: NoiseSchedule, xt: Array, x0: Array, t: int | IntArray) -> Array:
    """Return the score s = (√ᾱ_t x_0 − x_t)/(1 − ᾱ_t)."""
    check_images(xt=xt, x0=x0)
    signal, noise = _rates(schedule, xt, t)
    score: Array = (signal * x0 - xt) / (noise * noise)
    return score


def x0_from_score(schedule: NoiseSchedule, xt: Array, score: Array, t: int | IntArray) -> Array:
    """Return the image x_0 = (x_t + (1 − ᾱ_t) s)/√ᾱ_t: Tweedie's formula."""
    check_images(xt=xt, score=score)
    signal, noise = _rates(schedule, xt, t)
    x0: Array = (xt + noise * noise * score) / signal
    return x0


def eps_model(schedule: NoiseSchedule, score_model: Model) -> Model:
    """Return a model of ε made of a model of the score, for chains that ``predict`` eps.

    L_simple of it is denoising score matching, weighted by 1 − ᾱ_t: ‖ε − ε̂‖² = (1 − ᾱ_t) ‖s − ŝ‖².
    """

    def model(xt: Array, t: IntArray) -> Array:
        return eps_from_score(schedule, score_model(xt, t), t)

    return model


def _rates(schedule: NoiseSchedule, x: Array, t: int | IntArray) -> tuple[Array, Array]:
    """√ᾱ_t and √(1 − ᾱ_t), (N, 1, 1, 1) each."""
    times = check_times(t, len(x), first=1, last=schedule.T)
    signal = per_image(np.sqrt(schedule.alpha_bar), times, x)
    return signal, per_image(np.sqrt(schedule.one_minus_alpha_bar), times, x)
