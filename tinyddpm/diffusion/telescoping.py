"""From the ratio of the joints to a sum of divergences (Ho et al. 2020, appendix A, eq. 17–22).

Along any path x_0, x_1 … x_T, by Bayes for q given x_0,

    q(x_t | x_{t−1}) = q(x_{t−1} | x_t, x_0) q(x_t | x_0)/q(x_{t−1} | x_0),    t > 1

and in the product over t the fractions cancel, except for the last one. So these two are the same
number, for any path and any p:

    before   −log p(x_T) − Σ_{t≥1} log p(x_{t−1} | x_t)/q(x_t | x_{t−1})
    after    log q(x_T | x_0)/p(x_T) + Σ_{t>1} log q(x_{t−1} | x_t, x_0)/p(x_{t−1} | x_t)
             − log p(x_0 | x_1)

The mean over paths of the second is L_T + Σ L_{t−1} + L_0; p(x_0 | x_1) is the discrete decoder.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from tinyddpm.arrays import Array, xp_of
from tinyddpm.diffusion.decoder import log_probability
from tinyddpm.diffusion.per_image import per_image_sum
from tinyddpm.diffusion.sampling import Model
from tinyddpm.rng import Stream, normal

if TYPE_CHECKING:
    from tinyddpm.diffusion.gaussian import GaussianDiffusion

Path = list[Array]  # x_0, x_1 … x_T


def forward_path(
    diffusion: GaussianDiffusion, x0: Array, *, seed: int = 0, stream: Stream = "sample"
) -> Path:
    """Return x_0 … x_T, walked step by step from ``x0`` (N, H, W, C)."""
    path, samples = [x0], np.arange(len(x0))
    for t in range(1, diffusion.schedule.T + 1):
        eps = normal(seed, stream, step=t, samples=samples, shape=x0.shape[1:], dtype=x0.dtype)
        path.append(diffusion.q_step(path[-1], t, xp_of(x0).asarray(eps)))
    return path


def log_ratio_before(diffusion: GaussianDiffusion, model: Model, path: Path) -> Array:
    """Return log q(x_1 … x_T | x_0)/p(x_0 … x_T), (N,), in nats, from the steps of both chains."""
    log_ratio = -_log_normal(path[-1], 0.0, 0.0)
    for t in range(1, diffusion.schedule.T + 1):
        mean = math.sqrt(diffusion.schedule.alpha[t]) * path[t - 1]
        forward = _log_normal(path[t], mean, math.log(diffusion.schedule.beta[t]))
        log_ratio = log_ratio + forward - _log_reverse(diffusion, model, path, t)
    return log_ratio


def log_ratio_after(diffusion: GaussianDiffusion, model: Model, path: Path) -> Array:
    """Return the same number as ``log_ratio_before``, from the marginal at T and the posteriors.

    log q(x_T | x_0)/p(x_T) + Σ_{t>1} log q(x_{t−1} | x_t, x_0)/p(x_{t−1} | x_t) − log p(x_0 | x_1)
    (Ho et al. 2020, appendix A).
    """
    x0, schedule = path[0], diffusion.schedule
    mean = math.sqrt(schedule.alpha_bar[-1]) * x0
    marginal = _log_normal(path[-1], mean, math.log(schedule.one_minus_alpha_bar[-1]))
    log_ratio = marginal - _log_normal(path[-1], 0.0, 0.0)
    for t in range(2, schedule.T + 1):
        mean, _ = diffusion.q_posterior(x0, path[t], t)
        posterior = _log_normal(path[t - 1], mean, math.log(schedule.beta_tilde[t]))
        log_ratio = log_ratio + posterior - _log_reverse(diffusion, model, path, t)
    return log_ratio - _log_reverse(diffusion, model, path, 1)


def _log_reverse(diffusion: GaussianDiffusion, model: Model, path: Path, t: int) -> Array:
    """log p(x_{t−1} | x_t), (N,); at t = 1 of the pixels' bins."""
    output = model(path[t], np.full(len(path[t]), diffusion.timesteps[t]))
    reverse = diffusion.p_mean_variance(output, path[t], t, clip=False)
    if t > 1:
        return _log_normal(path[t - 1], reverse.mean, reverse.log_variance)
    log_p, _ = log_probability(path[0], reverse.mean, reverse.log_variance)
    return per_image_sum(log_p)


def _log_normal(x: Array, mean: Array | float, log_variance: Array | float) -> Array:
    """log 𝒩(x; mean, variance) of each image, (N,)."""
    xp = xp_of(x)
    square = (x - mean) ** 2 * xp.exp(-xp.asarray(log_variance, x.dtype))
    return per_image_sum(-0.5 * (square + log_variance + math.log(2.0 * math.pi)))
