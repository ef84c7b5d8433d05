"""The variational bound on −log p(x_0) (Ho et al. 2020, arXiv 2006.11239, eq. 5), in nats.

    −log p(x_0) ≤ L_0 + L_1 + … + L_{T−1} + L_T

    L_T     = KL(q(x_T | x_0) ‖ 𝒩(0, I))                               the prior: nothing to learn
    L_{t−1} = E_q KL(q(x_{t−1} | x_t, x_0) ‖ p(x_{t−1} | x_t))         t = 2 … T
    L_0     = E_q [−log P(x_0 | x_1)]                                  t = 1: the discrete decoder

The two means are c x_0 + c′ x_t and c x̂_0 + c′ x_t, so the network enters L_{t−1} only through x̂_0
and log σ_t². Backwards, the KL or the decoder gives dμ and d log σ², and from these follow

    dx̂_0 = c dμ (c = 1 at t = 1)          doutput = (∂x̂_0/∂prediction dx̂_0, ∂log σ²/∂v d log σ²)

If σ_t² is fixed, a term is a weighted squared error and a constant,

    L_{t−1} = w_t ‖ε − ε_θ‖² + …    w_t = β_t²/(2 σ_t² α_t (1 − ᾱ_t))                   eq. 12
            = w_t SNR_t ‖x_0 − x̂_0‖² + …    w_t SNR_t = ½ (SNR_{t−1} − SNR_t)   if σ_t² = β̃_t

bits/dim = nats/(D ln 2), D the number of pixels times channels.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from tinyddpm.arrays import Array, IntArray, to_host, xp_of
from tinyddpm.diffusion.arguments import check_images, check_model, check_times
from tinyddpm.diffusion.decoder import DecoderSaved, log_probability, log_probability_backward
from tinyddpm.diffusion.kl import NormalKlSaved, normal_kl, normal_kl_backward
from tinyddpm.diffusion.per_image import per_image, per_image_sum
from tinyddpm.diffusion.sampling import Model
from tinyddpm.diffusion.schedule import NoiseSchedule, Table
from tinyddpm.rng import Stream, normal

if TYPE_CHECKING:
    from tinyddpm.diffusion.gaussian import GaussianDiffusion


class TermSaved(NamedTuple):
    """What the KL of all images and the decoder of those at t = 1 keep."""

    times: IntArray  # (N,)
    kl: NormalKlSaved
    first: IntArray  # the numbers of the images at t = 1
    decoder: DecoderSaved | None  # None if there is no such image
    within: Array | None  # where clipping left x̂_0 as it was; None without clipping


def bound_term(
    diffusion: GaussianDiffusion,
    output: Array,
    x0: Array,
    xt: Array,
    t: int | IntArray,
    *,
    clip: bool = True,
) -> tuple[Array, TermSaved]:
    """Return L_{t−1} of each image, (N,), in nats: one draw of its expectation over x_t.

    Args:
        diffusion: the chain; its method of the same name is this function.
        output: what the network gave for ``xt`` and ``t``.
        x0: the images, bytes scaled to [−1, 1].
        xt: the noised images, a draw from q(x_t | x_0).
        t: the times; t = 1 gives L_0.
        clip: hold x̂_0 in [−1, 1], as is usual for a bound that is reported, but not in training.
    """
    check_images(x0=x0, xt=xt)
    times = check_times(t, len(xt), first=1, last=diffusion.schedule.T)
    reverse = diffusion.p_mean_variance(output, xt, times, clip=clip)
    # x_t is left out of both means: where β_t is tiny its rounding would drown their difference.
    from_x0 = per_image(diffusion.posterior_from_x0, times, xt)
    log_beta_tilde = per_image(diffusion.log_variance_ends[0], times, xt)
    kl = NormalKlSaved(from_x0 * x0, log_beta_tilde, from_x0 * reverse.x0_hat, reverse.log_variance)
    nats = per_image_sum(normal_kl(*kl))
    first, decoder = np.flatnonzero(times == 1), None
    if len(first):
        rows = xp_of(xt).asarray(first)
        mean, log_variance = reverse.x0_hat[rows], reverse.log_variance[rows]
        log_p, decoder = log_probability(x0[rows], mean, log_variance)
        nats[rows] = -per_image_sum(log_p)
    within = xp_of(xt).abs(reverse.x0_hat) < 1.0 if clip else None
    return nats, TermSaved(times, kl, first, decoder, within)


def bound_term_backward(diffusion: GaussianDiffusion, dnats: Array, saved: TermSaved) -> Array:
    """Return ``doutput`` from ``dnats`` (N,): the v-channels last, if the variance is learned."""
    times, kl, first, decoder, within = saved
    dterm = dnats.reshape(-1, *(1,) * (kl.mean2.ndim - 1))
    dmean, dlog_variance = normal_kl_backward(dterm, kl)
    dx0_hat = per_image(diffusion.posterior_from_x0, times, kl.mean2) * dmean
    if decoder is not None:
        rows = xp_of(dnats).asarray(first)
        dx0_hat[rows], dlog_variance[rows] = log_probability_backward(-dterm[rows], decoder)
    if within is not None:
        dx0_hat = dx0_hat * within
    return diffusion.p_mean_variance_backward(dx0_hat, dlog_variance, times)


def prior_term(diffusion: GaussianDiffusion, x0: Array) -> Array:
    """Return L_T of each image, (N,), in nats: how far x_T of this image is from pure noise."""
    check_images(x0=x0)
    schedule = diffusion.schedule
    mean = math.sqrt(schedule.alpha_bar[-1]) * x0.astype(np.float64)
    log_variance = np.log(schedule.one_minus_alpha_bar[-1:])
    zero = xp_of(x0).zeros(1)
    nats = per_image_sum(normal_kl(mean, xp_of(x0).asarray(log_variance), zero, zero))
    return nats.astype(x0.dtype)


class BoundTerms(NamedTuple):
    """The bound, term by term and image by image."""

    nats: npt.NDArray[np.float64]  # (N, T + 1): column k is L_k, which belongs to t = k + 1
    dims: int  # D

    @property
    def bits_per_dim(self) -> npt.NDArray[np.float64]:
        """The terms in bits/dim, (N, T + 1); a row sums to the bound of its image."""
        bits: npt.NDArray[np.float64] = self.nats / (self.dims * math.log(2.0))
        return bits


def vlb(
    diffusion: GaussianDiffusion,
    model: Model,
    x0: Array,
    *,
    clip: bool = True,
    seed: int = 0,
    stream: Stream = "sample",
    first_sample: int = 0,
    progress: Callable[[int], None] | None = None,
) -> BoundTerms:
    """Return every term of the bound for the images ``x0`` (N, H, W, C), bytes in [−1, 1].

    −log p(x_0) ≤ L_0 + L_1 + … + L_T (Ho et al. 2020, eq. 5), in nats.
    Each L_{t−1} is estimated from one draw of x_t; their sum is an unbiased estimate of the bound.
    The noise of t is step t of the random stream, so two models can be compared on the same noise.

    Args:
        diffusion: the chain; its method of the same name is this function.
        model: called with x_t (N, H, W, C) and the original chain's t (N,), once for each t.
        x0: the images.
        clip: hold x̂_0 in [−1, 1].
        seed: of the noise, in [0, 2³²).
        stream: of the random numbers.
        first_sample: the number of the first image, for a batch that is part of a larger.
        progress: called after each step with its t, from T down to 1.

    Raises:
        UsageError: ``model`` is no function, or ``x0`` no array of floating-point numbers.
    """
    check_model(model)
    check_images(x0=x0)
    T, samples = diffusion.schedule.T, first_sample + np.arange(len(x0))
    nats = np.empty((len(x0), T + 1))
    nats[:, T] = to_host(prior_term(diffusion, x0))
    for t in range(T, 0, -1):
        drawn = normal(seed, stream, step=t, samples=samples, shape=x0.shape[1:], dtype=x0.dtype)
        xt = diffusion.q_sample(x0, t, xp_of(x0).asarray(drawn))
        output = model(xt, np.full(len(samples), diffusion.timesteps[t]))
        nats[:, t - 1] = to_host(bound_term(diffusion, output, x0, xt, t, clip=clip)[0])
        if progress is not None:
            progress(t)
    return BoundTerms(nats, math.prod(x0.shape[1:]))


def eps_weights(schedule: NoiseSchedule, variance: Table) -> Table:
    """Return w_t, (T + 1,), the weight of ‖ε − ε_θ‖² in L_{t−1}, in nats; entry 0 is 0.

    w_t = β_t²/(2 σ_t² α_t (1 − ᾱ_t)) (Ho et al. 2020, eq. 12); ``variance`` (T + 1,) is σ_t². At
    t = 1 it holds for density × bin width in place of the decoder's integral; if σ_1² = β̃_1 = 0,
    it is ∞.
    """
    weights = np.zeros_like(schedule.beta)
    spread = 2.0 * variance[1:] * schedule.alpha[1:] * schedule.one_minus_alpha_bar[1:]
    with np.errstate(divide="ignore"):
        weights[1:] = schedule.beta[1:] ** 2 / spread
    return weights


def snr_weights(schedule: NoiseSchedule) -> Table:
    """Return ½ (SNR_{t−1} − SNR_t), (T + 1,), the weight of ‖x_0 − x̂_0‖² in L_{t−1} for σ² = β̃.

    Entry 0 is 0; entry 1 is ∞, because β̃_1 = 0.
    """
    weights = np.zeros_like(schedule.beta)
    weights[1:] = 0.5 * (schedule.snr[:-1] - schedule.snr[1:])
    return weights
