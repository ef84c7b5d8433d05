"""The score ∇ log q(x_t), and what the noise says about it.

Given x_0, q(x_t | x_0) is Gaussian and its score is the noise, scaled:

    ∇ log q(x_t | x_0) = −(x_t − √ᾱ_t x_0)/(1 − ᾱ_t) = −ε/√(1 − ᾱ_t)

The mean of this over all x_0 that may lie behind x_t is the score of q(x_t) itself (Vincent 2011,
"A connection between score matching and denoising autoencoders"), so that the best predictions of
ε and of x_0 are the score in other words (Tweedie's formula; Luo 2022, arXiv 2208.11970, eq. 133):

    s = −ε̂/√(1 − ᾱ_t) = (√ᾱ_t x̂_0 − x_t)/(1 − ᾱ_t)

The way from s to x̂_0 is that of a ``GaussianDiffusion`` that predicts "score". L_simple is then
denoising score matching weighted by 1 − ᾱ_t: ‖ε − ε̂‖² = (1 − ᾱ_t) ‖s − ŝ‖².
"""

from __future__ import annotations

import numpy as np

from tinyddpm.arrays import Array, IntArray
from tinyddpm.diffusion.arguments import check_images, check_times
from tinyddpm.diffusion.per_image import per_image
from tinyddpm.diffusion.schedule import NoiseSchedule


def score_from_eps(schedule: NoiseSchedule, eps: Array, t: int | IntArray) -> Array:
    """Return the score s = −ε/√(1 − ᾱ_t) (Tweedie's formula; Luo 2022), (N, H, W, C) like ``eps``.

    Args:
        schedule: of the chain.
        eps: the noise, true or predicted.
        t: the paper's t of the schedule, 1 … T: an integer, or an (N,) array, one for each image.

    Raises:
        UsageError: ``t`` is out of range, or ``eps`` no array of floating-point numbers.
    """
    check_images(eps=eps)
    times = check_times(t, len(eps), first=1, last=schedule.T)
    noise = per_image(np.sqrt(schedule.one_minus_alpha_bar), times, eps)
    score: Array = -eps / noise
    return score
