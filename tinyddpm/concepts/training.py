"""The two algorithms: concepts 28 and 29."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from tinyddpm import rng
from tinyddpm.arrays import Array, IntArray
from tinyddpm.concepts import independent
from tinyddpm.concepts.concept import Check, Concept, exactly, table
from tinyddpm.data.dataset import Dataset
from tinyddpm.data.glyphs import glyphs
from tinyddpm.diffusion.gaussian import GaussianDiffusion
from tinyddpm.diffusion.schedule import NoiseSchedule
from tinyddpm.nn.unet import UNet
from tinyddpm.ops.kernels import reference
from tinyddpm.parallel import Workers
from tinyddpm.training.config import RunConfig, recipe
from tinyddpm.training.step import Trainer


def _run() -> tuple[RunConfig, Dataset]:
    """A run on eight digits, all in every batch, of a network that starts with no zeros."""
    config = recipe("glyphs", "glyphs")
    network = replace(config.network, zero_init=False)
    return replace(config, network=network, batch=8, shard=4), glyphs(8)


def _check_training() -> Check:
    config, digits = _run()
    with Workers(1) as workers:
        trainer = Trainer(config, digits, workers, reference)
        report = trainer.step(1)
    gradient = trainer.network.parameters.grad.astype(np.float64)
    direction = gradient / np.sqrt(gradient @ gradient)
    begun = UNet(config.network, config.seed).parameters.value.astype(np.float64)

    def loss(distance: float) -> float:
        return _algorithm_1(config, digits.images, begun + distance * direction)

    return exactly(
        "loss and gradient norm of the first training step, in float32",
        [report.loss, report.grad_norm],
        "Algorithm 1 by hand in float64, and its slope along the gradient by differences",
        [loss(0.0), independent.slope(loss, 0.0, 1e-3)],
        rtol=1e-4,
    )


def _algorithm_1(config: RunConfig, images: Array, values: Array) -> float:
    """Lines 2 to 5 for the batch of step 1: ‖ε − ε_θ(√ᾱ_t x_0 + √(1−ᾱ_t) ε, t)‖², the mean."""
    places, shape = np.arange(config.batch), images.shape[1:]
    order = rng.permutation(config.seed, "order", epoch=0, n=len(images))
    t = rng.integers(config.seed, "t", step=1, samples=places, high=config.diffusion.T)
    eps = rng.normal(config.seed, "noise", step=1, samples=places, shape=shape)
    network = UNet(config.network, dtype=np.float64, values=values)
    squares = []
    for image, time, noise in zip(images[order], t.tolist(), eps.astype(np.float64), strict=True):
        alpha_bar = independent.cosine_alpha_bar(time, config.diffusion.T)
        x0 = image / 127.5 - 1
        xt = math.sqrt(alpha_bar) * x0 + math.sqrt(1 - alpha_bar) * noise
        predicted, _ = network.forward(xt[None], np.array([time - 1]))
        squares.append(float(((noise - predicted[0]) ** 2).mean()))
    return math.fsum(squares) / len(squares)


def _table_training() -> str:
    rows = [
        ("2", "x_0 ~ q(x_0)", "an epoch's permutation, rng.permutation"),
        ("3", "t ~ U{1 … T}", "rng.integers: T is drawn too"),
        ("4", "ε ~ 𝒩(0, I)", "rng.normal"),
        ("5", "step on ∇‖ε − ε_θ‖²", "UNet.backward, then Adam and EMA"),
    ]
    return table(("line", "Algorithm 1", "here"), rows)


def _tanh_model(xt: Array, t: IntArray) -> Array:
    """Some model of ε; which one does not matter."""
    noise: Array = np.tanh(xt + 0.01 * t.reshape(-1, 1, 1, 1))
    return noise


def _check_sampling() -> Check:
    schedule, shape, seed = NoiseSchedule.linear(50), (2, 2, 1, 1), 29
    diffusion = GaussianDiffusion(schedule, variance="beta_tilde")
    ours = diffusion.sample(_tanh_model, shape, seed=seed, clip=False, dtype=np.float64)
    _, variances = independent.walk(schedule.beta[1:])

    def z(step: int) -> Array:
        drawn = rng.normal(
            seed, "sample", step=step, samples=np.arange(2), shape=shape[1:], dtype=np.float64
        )
        return drawn

    x = z(0)
    for t in range(50, 0, -1):
        beta = schedule.beta[t]
        noise = beta / math.sqrt(variances[t - 1]) * _tanh_model(x, np.full(2, t))
        x = (x - noise) / math.sqrt(1 - beta)
        if t > 1:
            x = x + math.sqrt(independent.bayes(0.0, variances[t - 2], 1 - beta, 0.0)[1]) * z(t)
    return exactly(
        "four pixels after 50 steps back",
        ours.ravel(),
        "Algorithm 2 line by line as printed, from the same random numbers",
        x.ravel(),
        rtol=1e-9,
    )


def _table_sampling() -> str:
    schedule = NoiseSchedule.linear()
    rows = [
        (
            t,
            1 / math.sqrt(schedule.alpha[t]),
            schedule.beta[t] / math.sqrt(schedule.one_minus_alpha_bar[t]),
            math.sqrt(schedule.beta_tilde[t]) if t > 1 else "0, no noise",
        )
        for t in (1000, 500, 100, 2, 1)
    ]
    return table(("t, linear chain", "1/√α_t", "(1−α_t)/√(1−ᾱ_t)", "σ_t, of β̃"), rows)


CONCEPTS = (
    Concept(
        number=28,
        name="training",
        title="Algorithm 1: training",
        text="""Take an image, draw a t and a noise, mix them, ask the network for the noise, and
        step down the gradient of the squared error. Nothing is sampled and no chain is walked,
        which is why training is simple and stable. Both ends count: a draw that leaves out t = 1
        or t = T leaves a step of the way back untaught.""",
        equation="""repeat   x_0 ~ q(x_0),   t ~ U{1 … T},   ε ~ 𝒩(0, I)
                 step on ∇_θ ‖ε − ε_θ(√ᾱ_t x_0 + √(1−ᾱ_t) ε, t)‖²""",
        functions=(Trainer.step,),
        check=_check_training,
        table=_table_training,
    ),
    Concept(
        number=29,
        name="sampling",
        title="Algorithm 2: sampling",
        text="""Start from noise; at each t take away the noise that the network sees, and put a
        little fresh noise back, but none at t = 1: the last mean is the image. In practice x̂_0
        is held in [−1, 1] on the way, which the printed algorithm does not do; without that both
        are the same numbers.""",
        equation="""x_T ~ 𝒩(0, I);   for t = T … 1:   z ~ 𝒩(0, I) if t > 1, else z = 0
        x_{t−1} = (x_t − (1−α_t)/√(1−ᾱ_t) ε_θ(x_t, t))/√α_t + σ_t z""",
        functions=(GaussianDiffusion.sample,),
        check=_check_sampling,
        table=_table_sampling,
        figure="reverse-trajectory",
    ),
)
