"""The chain in numbers, as the kernels of training and sampling read it: a row for each t.

All that the kernels do is linear in the images, and the coefficients are read off the chain's own
maps: their values at one and zero. No equation is written down a second time.
"""

from __future__ import annotations

import math

import numpy as np

from tinyddpm.arrays import Array
from tinyddpm.diffusion.gaussian import GaussianDiffusion
from tinyddpm.diffusion.losses import resolve_objective
from tinyddpm.kernels.cuda.denoise import ChainTable
from tinyddpm.kernels.cuda.loss import LossTable
from tinyddpm.nn.embedding import network_time
from tinyddpm.training.config import DiffusionConfig


def chain_table(chain: GaussianDiffusion, eta: float | None) -> ChainTable:
    """Return what a step of ``chain`` is made of: of DDIM with ``eta``, ancestral if it is None."""
    t, one, zero = _times(chain)
    learned = chain.variance == "learned"
    from_x0 = GaussianDiffusion(chain.schedule, "x0", _fixed(chain).variance)

    def mean_variance(x0_hat: Array, xt: Array) -> tuple[Array, Array]:
        if eta is None:
            mean, variance, _, _ = from_x0.p_mean_variance(x0_hat, xt, t, clip=False)
        else:
            mean, variance, _ = from_x0.ddim_mean_variance(x0_hat, xt, t, eta=eta, clip=False)
        return mean, variance

    coefficients = _rows(
        *_prediction(chain),
        mean_variance(one, zero)[0],
        mean_variance(zero, one)[0],
        np.sqrt(mean_variance(zero, zero)[1]),
        *(end[1:] for end in chain.log_variance_ends),
    )
    times = network_time(chain.timesteps).astype(np.float64)
    return ChainTable(coefficients, times, 1 + learned, learned=learned and eta is None)


def loss_table(config: DiffusionConfig, dims: int) -> LossTable:
    """Return what the loss of images of ``dims`` numbers is made of."""
    chain = config.build()
    t, one, zero = _times(chain)
    objective = resolve_objective(config.objective, chain.variance)
    coefficients = _rows(
        *_prediction(chain),
        chain.posterior_from_x0[1:],
        _fixed(chain).p_mean_variance(one, zero, t).log_variance,
        *(end[1:] for end in chain.log_variance_ends),
        np.sqrt(chain.schedule.one_minus_alpha_bar[1:]),
    )
    bits = chain.schedule.T / (dims * math.log(2.0))
    per_nat = {"simple": 0.0, "hybrid": config.vlb_weight * bits, "vlb": bits}[objective]
    outputs, score = 1 + (chain.variance == "learned"), chain.predict == "score"
    return LossTable(coefficients, objective, outputs, score=score, per_nat=per_nat)


def _times(chain: GaussianDiffusion) -> tuple[Array, Array, Array]:
    """All t, and as many images of one pixel: 1 and 0."""
    shape = (chain.schedule.T, 1, 1, 1)
    return np.arange(1, chain.schedule.T + 1), np.ones(shape), np.zeros(shape)


def _fixed(chain: GaussianDiffusion) -> GaussianDiffusion:
    """The chain with a variance that asks for no channels of its own."""
    variance = "beta_tilde" if chain.variance == "learned" else chain.variance
    return GaussianDiffusion(chain.schedule, chain.predict, variance)


def _prediction(chain: GaussianDiffusion) -> tuple[Array, Array]:
    """What x_t and the prediction are multiplied by in x̂_0."""
    t, one, zero = _times(chain)
    return _fixed(chain).predict_x0(one, t, zero), _fixed(chain).predict_x0(zero, t, one)


def _rows(*columns: Array) -> Array:
    """The columns of t = 1 … T side by side, (T + 1, …); row 0 is 0."""
    rows = np.zeros((columns[0].size + 1, len(columns)))
    rows[1:] = np.stack([column.reshape(-1) for column in columns], axis=1)
    return rows
