"""DDIM: a reverse chain with as much noise as one likes (Song et al. 2021, arXiv 2010.02502).

    x_{t−1} = √ᾱ_{t−1} x̂_0 + √(1 − ᾱ_{t−1} − σ_t²) ε̂ + σ_t z,   z ~ 𝒩(0, I)        eq. 12
    σ_t     = η √((1 − ᾱ_{t−1})/(1 − ᾱ_t)) √(1 − ᾱ_t/ᾱ_{t−1}) = η √β̃_t             eq. 16

x̂_0 comes from the network, and ε̂ = (x_t − √ᾱ_t x̂_0)/√(1 − ᾱ_t) from x̂_0, so that x_t is made of the
two even where x̂_0 was clipped. q(x_t | x_0) is the same for all η, and so is the network. η = 1 is
ancestral sampling with variance beta_tilde. With η = 0 the only noise is x_T, and the steps are
Euler's for the differential equation

    d(x/√ᾱ) = ε̂ d(√(1 − ᾱ)/√ᾱ)                                                        eq. 14

Walked the other way, it takes an image to the noise that it comes from (section 4.3):

    x_t = √ᾱ_t x̂_0 + √(1 − ᾱ_t) ε̂,   x̂_0 and ε̂ at (x_{t−1}, t − 1)

At t = 0 no network is needed for x̂_0, which is x_0; ε̂ is taken from t = 1, one small step away.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from tinyddpm.arrays import Array, IntArray, to_device, xp_of
from tinyddpm.diffusion.arguments import check_images, check_model, check_shape, check_times
from tinyddpm.diffusion.per_image import per_image
from tinyddpm.diffusion.sampling import Model, SampleStep, last_image
from tinyddpm.diffusion.schedule import NoiseSchedule, Table
from tinyddpm.errors import UsageError
from tinyddpm.rng import Stream, normal

if TYPE_CHECKING:
    from tinyddpm.diffusion.gaussian import GaussianDiffusion


def ddim_mean_variance(
    diffusion: GaussianDiffusion,
    output: Array,
    xt: Array,
    t: int | IntArray,
    *,
    eta: float = 0.0,
    clip: bool = True,
) -> tuple[Array, Array, Array]:
    """Return the mean and the variance (N, 1, 1, 1) of x_{t−1} given x_t, and x̂_0.

    Args:
        diffusion: the chain; its methods of the same names are these functions.
        output: what the network gave for x_t.
        xt: (N, H, W, C).
        t: the paper's t in this chain.
        eta: η, in [0, 1]. The variance is η² β̃_t: 0 at t = 1, also for η = 1.
        clip: hold x̂_0 in [−1, 1], and with it ε̂.

    Raises:
        UsageError: ``eta`` is not in [0, 1], or as in ``p_mean_variance``.
    """
    _check_eta(eta)
    schedule = diffusion.schedule
    times = check_times(t, len(xt), first=1, last=schedule.T)
    x0_hat = diffusion.p_mean_variance(output, xt, times, clip=clip).x0_hat
    eps_hat = diffusion.predict_eps(xt, times, x0_hat)
    signal = per_image(np.sqrt(schedule.alpha_bar), times - 1, xt)
    mean = signal * x0_hat + per_image(_noise_kept(schedule, eta), times, xt) * eps_hat
    return mean, per_image(eta**2 * schedule.beta_tilde, times, xt), x0_hat


def _check_eta(eta: float) -> None:
    if not 0.0 <= eta <= 1.0:
        raise UsageError(
            "eta must lie in 0 ... 1, from no noise to that of ancestral sampling",
            cause=f"eta = {eta}",
        )


def _noise_kept(schedule: NoiseSchedule, eta: float) -> Table:
    """√(1 − ᾱ_{t−1} − η² β̃_t), (T + 1,); entry 0 is 0.

    As β̃_t = (1 − ᾱ_{t−1}) (1 − α_t (1 − ᾱ_{t−1})/(1 − ᾱ_t)), it can be computed as the root of a
    sum of positive terms, in which nothing cancels.
    """
    before, now = schedule.one_minus_alpha_bar[:-1], schedule.one_minus_alpha_bar[1:]
    kept = np.zeros_like(schedule.beta)
    kept[1:] = np.sqrt(before * (1.0 - eta**2 + eta**2 * schedule.alpha[1:] * before / now))
    return kept


def ddim_steps_from(
    diffusion: GaussianDiffusion,
    model: Model,
    x_T: Array,
    *,
    seed: int = 0,
    eta: float = 0.0,
    clip: bool = True,
    stream: Stream = "sample",
    first_sample: int = 0,
) -> Iterator[SampleStep]:
    """Walk from ``x_T`` (N, H, W, C) to images, yielding (t, x_{t−1}, x0_hat) for t = T … 1.

    The other arguments are those of ``ddim_steps``.

    Raises:
        UsageError: ``model`` is no function, ``x_T`` no array of floating-point numbers, or ``eta``
            is not in [0, 1].
    """
    check_model(model)
    check_images(x_T=x_T)
    _check_eta(eta)
    xp, samples = xp_of(x_T), first_sample + np.arange(len(x_T))

    def walk(x: Array) -> Iterator[SampleStep]:
        for t in range(diffusion.schedule.T, 0, -1):
            output = model(x, np.full(len(x), diffusion.timesteps[t]))
            x, variance, x0_hat = ddim_mean_variance(diffusion, output, x, t, eta=eta, clip=clip)
            if eta > 0.0 and t > 1:
                z = normal(seed, stream, step=t, samples=samples, shape=x.shape[1:], dtype=x.dtype)
                x = x + xp.sqrt(variance) * xp.asarray(z)
            yield SampleStep(t, x, x0_hat)

    return walk(x_T)


def ddim_steps(
    diffusion: GaussianDiffusion,
    model: Model,
    shape: tuple[int, ...],
    *,
    seed: int = 0,
    eta: float = 0.0,
    clip: bool = True,
    stream: Stream = "sample",
    first_sample: int = 0,
    dtype: npt.DTypeLike = np.float32,
    device: str = "cpu",
) -> Iterator[SampleStep]:
    """Walk the chain from noise to images, yielding (t, x_{t−1}, x0_hat) for t = T … 1.

    The random numbers are those of ``sample_steps``: x_T is step 0 of the stream, z of t step t.

    Args:
        diffusion: the chain; respaced, it is walked in fewer steps.
        model: called with x_t (N, H, W, C) and the original chain's t (N,), once per step.
        shape: (N, H, W, C).
        seed: of the noise, in [0, 2³²).
        eta: η, in [0, 1]: 0 adds no noise, 1 that of ancestral sampling.
        clip: hold x0_hat in [−1, 1].
        stream: of the random numbers.
        first_sample: the number of the batch's first image, for a batch that is part of a larger.
        dtype: of the images.
        device: ``cpu`` or ``cuda``.

    Raises:
        UsageError: ``model`` is no function, ``shape`` no shape of images, or ``eta`` is not in
            [0, 1].
    """
    check_shape(shape)
    samples = first_sample + np.arange(shape[0])
    x_T = normal(seed, stream, step=0, samples=samples, shape=shape[1:], dtype=dtype)
    return ddim_steps_from(
        diffusion,
        model,
        to_device(x_T, device),
        seed=seed,
        eta=eta,
        clip=clip,
        stream=stream,
        first_sample=first_sample,
    )


def ddim(  # noqa: PLR0913  the arguments of sample, and eta
    diffusion: GaussianDiffusion,
    model: Model,
    shape: tuple[int, ...],
    *,
    seed: int = 0,
    eta: float = 0.0,
    clip: bool = True,
    stream: Stream = "sample",
    first_sample: int = 0,
    dtype: npt.DTypeLike = np.float32,
    device: str = "cpu",
    progress: Callable[[int], None] | None = None,
) -> Array:
    """Return images x_0 of ``shape`` (N, H, W, C): the end of ``ddim_steps``, with its arguments.

    x_{t−1} = √ᾱ_{t−1} x̂_0 + √(1 − ᾱ_{t−1} − σ_t²) ε̂ + σ_t z, σ_t = η √β̃_t (Song et al. 2021,
    eq. 12 and 16). x̂_0 is held in [−1, 1] on the way: data that are no images want ``clip=False``.
    ``progress`` is called after each step with its t, from T down to 1.
    """
    steps = ddim_steps(
        diffusion,
        model,
        shape,
        seed=seed,
        eta=eta,
        clip=clip,
        stream=stream,
        first_sample=first_sample,
        dtype=dtype,
        device=device,
    )
    return last_image(steps, progress)


def ddim_invert_steps(
    diffusion: GaussianDiffusion, model: Model, x0: Array
) -> Iterator[SampleStep]:
    """Walk from images ``x0`` (N, H, W, C) to noise, yielding (t, x_t, x0_hat) for t = 1 … T.

    Here x0_hat is the image foreseen at t − 1, not clipped; at t = 1 it is ``x0``. From the last
    x_t ``ddim_steps_from`` with η = 0 and no clipping leads back to ``x0``, up to an error that
    falls with the number of steps.

    Raises:
        UsageError: ``model`` is no function, or ``x0`` no array of floating-point numbers.
    """
    check_model(model)
    check_images(x0=x0)

    def walk(x: Array) -> Iterator[SampleStep]:
        for t in range(1, diffusion.schedule.T + 1):
            here = max(t - 1, 1)
            output = model(x, np.full(len(x), diffusion.timesteps[here]))
            foreseen = diffusion.predict_x0(x, here, output)
            eps_hat = diffusion.predict_eps(x, here, foreseen)
            x0_hat = foreseen if t > 1 else x0
            x = diffusion.q_sample(x0_hat, t, eps_hat)
            yield SampleStep(t, x, x0_hat)

    return walk(x0)


def ddim_invert(
    diffusion: GaussianDiffusion,
    model: Model,
    x0: Array,
    *,
    progress: Callable[[int], None] | None = None,
) -> Array:
    """Return the noise x_T (N, H, W, C) behind images ``x0``: the end of ``ddim_invert_steps``.

    ``progress`` is called after each step with its t, from 1 up to T.
    """
    return last_image(ddim_invert_steps(diffusion, model, x0), progress)
