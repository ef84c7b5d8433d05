"""Ancestral sampling: Algorithm 2 of Ho et al. 2020 (arXiv 2006.11239).

    x_T ~ 𝒩(0, I)
    for t = T … 1:   x_{t−1} = μ_θ(x_t, t) + σ_t z,   z ~ 𝒩(0, I), and z = 0 at t = 1

z of chain step t is drawn at step t of the random stream, and x_T at step 0. What is drawn for an
image depends on its number, not on its batch: a batch cut in two gets the same noise, to the bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from tinyddpm.arrays import Array, IntArray, to_device, xp_of
from tinyddpm.diffusion.arguments import check_model, check_shape
from tinyddpm.rng import Stream, normal

if TYPE_CHECKING:
    from tinyddpm.diffusion.gaussian import GaussianDiffusion

# model(xt, t): xt (N, H, W, C), t (N,) the paper's t of the original chain, a host array.
Model = Callable[[Array, IntArray], Array]


class SampleStep(NamedTuple):
    """One step of the reverse chain."""

    t: int  # of the chain being walked, T … 1
    x: Array  # (N, H, W, C) x_{t−1}
    x0_hat: Array  # (N, H, W, C) the image foreseen at t


def sample_steps(
    diffusion: GaussianDiffusion,
    model: Model,
    shape: tuple[int, ...],
    *,
    seed: int = 0,
    clip: bool = True,
    stream: Stream = "sample",
    first_sample: int = 0,
    dtype: npt.DTypeLike = np.float32,
    device: str = "cpu",
) -> Iterator[SampleStep]:
    """Walk the reverse chain from noise to images, yielding (t, x_{t−1}, x0_hat) for t = T … 1.

    Args:
        diffusion: the chain; its methods of the same names are these functions.
        model: called with x_t (N, H, W, C) and the original chain's t (N,), once per step.
        shape: (N, H, W, C).
        seed: of the noise, in [0, 2³²).
        clip: hold x0_hat in [−1, 1].
        stream: of the random numbers.
        first_sample: the number of the batch's first image, for a batch that is part of a larger.
        dtype: of the images.
        device: ``cpu`` or ``cuda``.

    Raises:
        UsageError: ``model`` is no function, or ``shape`` no shape of images.
    """
    check_model(model)
    check_shape(shape)
    samples = first_sample + np.arange(shape[0])

    def noise(step: int) -> Array:
        return normal(seed, stream, step=step, samples=samples, shape=shape[1:], dtype=dtype)

    def walk(x: Array) -> Iterator[SampleStep]:
        xp = xp_of(x)
        for t in range(diffusion.schedule.T, 0, -1):
            output = model(x, np.full(len(samples), diffusion.timesteps[t]))
            mean, variance, _, x0_hat = diffusion.p_mean_variance(output, x, t, clip=clip)
            x = mean + xp.sqrt(variance) * xp.asarray(noise(t)) if t > 1 else mean
            yield SampleStep(t, x, x0_hat)

    return walk(to_device(noise(0), device))


def sample(
    diffusion: GaussianDiffusion,
    model: Model,
    shape: tuple[int, ...],
    *,
    seed: int = 0,
    clip: bool = True,
    stream: Stream = "sample",
    first_sample: int = 0,
    dtype: npt.DTypeLike = np.float32,
    device: str = "cpu",
    progress: Callable[[int], None] | None = None,
) -> Array:
    """Return images x_0 of ``shape`` (N, H, W, C): the end of ``sample_steps``, with its arguments.

    x_{t−1} = μ_θ(x_t, t) + σ_t z for t = T … 1, and z = 0 at t = 1 (Ho et al. 2020, algorithm 2).
    x̂_0 is held in [−1, 1] on the way: data that are no images want ``clip=False``.
    ``progress`` is called after each step with its t, from T down to 1.
    """
    steps = sample_steps(
        diffusion,
        model,
        shape,
        seed=seed,
        clip=clip,
        stream=stream,
        first_sample=first_sample,
        dtype=dtype,
        device=device,
    )
    return last_image(steps, progress)


def last_image(steps: Iterator[SampleStep], progress: Callable[[int], None] | None) -> Array:
    """Walk ``steps`` to their end, telling ``progress`` each t, and return the last x."""
    for step in steps:
        if progress is not None:
            progress(step.t)
    return step.x
