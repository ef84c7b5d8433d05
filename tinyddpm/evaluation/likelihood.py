"""The likelihood of a data set, by its bound: −log p(x_0) ≤ L_0 + Σ L_{t−1} + L_T, in bits/dim.

For each image, with t = 2 … T (Ho et al. 2020, arXiv 2006.11239, eq. 5):

    L_T       in closed form
    L_0       at one x_1 ~ q(x_1 | x_0): the decoder's exact probability of all its pixels
    L_{t−1}   at one x_t for each of a few t (see ``strata``): a KL divergence in closed form, times
              the number n_j of times that it stands for

Their sum b_i is an unbiased estimate of the bound of image i: E[b_i | x_i] = bound(x_i), over x_1,
x_t and t. The noise of different images is independent, so the b_i are, too. Their variance

    Var b_i = Var bound(x_i) + E Var(b_i | x_i)

is that between the images and that by chance in t and x_t. Both show in the spread of the b_i, so
std(b_i)/√N is the whole standard error of their mean, as an estimate for all images of this kind.
The same holds for each term, and for the sum of the terms over any range of t.

What is drawn for an image depends only on the seed, the stratum and the image's number. So two
models are compared at the same t and on the same noise.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tinyddpm.arrays import Array, Floats, IntArray, to_device, to_host
from tinyddpm.data.dataset import ByteArray
from tinyddpm.data.pixels import from_bytes
from tinyddpm.diffusion.gaussian import GaussianDiffusion
from tinyddpm.diffusion.sampling import Model
from tinyddpm.errors import NonFiniteError
from tinyddpm.evaluation.strata import Strata
from tinyddpm.rng import normal

DRAWS = 16  # times for each image, unless told


class TimeMeans(NamedTuple):
    """L_{t−1} in bits/dim, for each t that some image was given."""

    t: IntArray
    images: IntArray  # how many were given it
    mean: Floats
    standard_error: Floats  # NaN where there was one


@dataclass(frozen=True, eq=False)
class BoundDraws:
    """The bound of N images at S drawn times each.

    Attributes:
        times: (N, S) t, one in each stratum.
        length: (S,) how many times each stands for.
        nats: (N, S) L_{t−1}.
        prior: (N,) L_T, in nats.
        dims: D, the number of pixels times channels.
    """

    times: IntArray
    length: IntArray
    nats: Floats
    prior: Floats
    dims: int

    @property
    def T(self) -> int:
        """The last time."""
        return int(self.length.sum())

    def terms(self, first: int, last: int) -> Floats:
        """Return the estimate of Σ L_{t−1} over t = first … last, in bits/dim, of each image."""
        within = self._within(first, last)
        nats: Floats = np.where(within, self.length * self.nats, 0.0).sum(axis=1)
        return self._bits(nats)

    def count(self, first: int, last: int) -> int:
        """Return how many of the times drawn, of all images, are from ``first`` to ``last``."""
        return int(self._within(first, last).sum())

    def prior_term(self) -> Floats:
        """Return L_T of each image, in bits/dim."""
        return self._bits(self.prior)

    def bound(self) -> Floats:
        """Return the estimate of L_0 + … + L_T of each image, in bits/dim."""
        return self.terms(1, self.T) + self.prior_term()

    def at_each_time(self) -> TimeMeans:
        """Return the mean of L_{t−1} over the images that were given t, for each such t."""
        t, bits = self.times.ravel(), self._bits(self.nats).ravel()
        images = np.bincount(t, minlength=self.T + 1)
        with np.errstate(invalid="ignore", divide="ignore"):
            mean = np.bincount(t, bits, self.T + 1) / images
            squares = np.bincount(t, (bits - mean[t]) ** 2, self.T + 1)
            error = np.sqrt(squares / (images - 1) / images)
        drawn = np.flatnonzero(images)
        return TimeMeans(drawn, images[drawn], mean[drawn], error[drawn])

    def _within(self, first: int, last: int) -> npt.NDArray[np.bool_]:
        within: npt.NDArray[np.bool_] = (first <= self.times) & (self.times <= last)
        return within

    def _bits(self, nats: Floats) -> Floats:
        bits: Floats = nats / (self.dims * math.log(2.0))
        return bits


class Likelihood(NamedTuple):
    """The bound from the same outputs of the network, with x̂_0 held in [−1, 1] and not."""

    clipped: BoundDraws
    unclipped: BoundDraws


def estimate_likelihood(
    diffusion: GaussianDiffusion,
    model: Model,
    images: ByteArray,
    *,
    samples: IntArray | None = None,
    draws: int = DRAWS,
    seed: int = 0,
    batch: int = 64,
    device: str = "cpu",
    progress: Callable[[], None] | None = None,
) -> Likelihood:
    """Estimate the bound of ``images`` (N, H, W, C), bytes.

    Args:
        diffusion: the chain.
        model: called with x_t (n, H, W, C) and the original chain's t (n,).
        images: bytes: the bound is one on the probability of bytes.
        samples: (N,) the images' numbers, for their random numbers; 0 … N − 1 unless given.
        draws: times for each image besides t = 1 and t = T; T − 2 or more means all of them.
        seed: of times and noise, in [0, 2³²).
        batch: images in a call of the model.
        device: ``cpu`` or ``cuda``.
        progress: called after each of the ``model_calls``.

    Raises:
        NonFiniteError: a term is not finite.
    """
    numbers = np.arange(len(images)) if samples is None else samples
    strata = Strata.cut(diffusion.schedule.T, draws)
    times = strata.draw(seed, numbers)
    nats, prior = np.empty((2, *times.shape)), np.empty(len(images))
    for start in range(0, len(images), batch):
        part = slice(start, start + batch)
        x0 = to_device(from_bytes(images[part]), device)
        prior[part] = to_host(diffusion.prior_term(x0))
        for draw, t in enumerate(times[part].T):
            eps = _noise(seed, draw, numbers[part], x0, device)
            nats[:, part, draw] = _terms(diffusion, model, x0, t, eps)
            if progress is not None:
                progress()
    _check_finite(nats, times)
    dims = math.prod(images.shape[1:])
    return Likelihood(*(BoundDraws(times, strata.length, kind, prior, dims) for kind in nats))


def model_calls(T: int, images: int, draws: int, batch: int) -> int:
    """Return how often ``estimate_likelihood`` calls the model."""
    return -(-images // batch) * len(Strata.cut(T, draws).length)


def _noise(seed: int, draw: int, samples: IntArray, x0: Array, device: str) -> Array:
    """The noise of stratum ``draw``; step 0 of the stream is that of the times."""
    shape = x0.shape[1:]
    eps = normal(seed, "likelihood", step=draw + 1, samples=samples, shape=shape, dtype=x0.dtype)
    return to_device(eps, device)


def _terms(
    diffusion: GaussianDiffusion, model: Model, x0: Array, t: IntArray, eps: Array
) -> tuple[Array, Array]:
    """L_{t−1} of each image in nats, x̂_0 clipped and not, from one output."""
    xt = diffusion.q_sample(x0, t, eps)
    output = model(xt, diffusion.timesteps[t])
    clipped, _ = diffusion.bound_term(output, x0, xt, t, clip=True)
    unclipped, _ = diffusion.bound_term(output, x0, xt, t, clip=False)
    return to_host(clipped), to_host(unclipped)


def _check_finite(nats: Floats, times: IntArray) -> None:
    wrong = ~np.isfinite(nats).all(axis=0)
    if wrong.any():
        raise NonFiniteError(
            "the bound is not finite",
            cause=f"{wrong.sum()} terms of {wrong.size}, the first at t = {times[wrong][0]}",
            remedy="an earlier checkpoint, or the ema weights: this network overflows",
        )
