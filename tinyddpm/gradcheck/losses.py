"""Cases for every ``*_backward`` in ``tinyddpm.diffusion``: the decoder, the bound, the losses.

The decoder is made of fitted functions, through which no complex step goes. Its certificate takes
the derivative of the same number computed in another way, which is analytic: the integral itself,
by Gauss–Legendre quadrature of the density over the bin,

    P(x) = ∫ 𝒩(y; μ, σ²) dy        an open bin is cut off 14 σ beyond its edge or the mean
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, get_args

import numpy as np

from tinyddpm.arrays import Array
from tinyddpm.diffusion.decoder import HALF_BIN, LEVELS, log_probability, log_probability_backward
from tinyddpm.diffusion.gaussian import GaussianDiffusion, Prediction
from tinyddpm.diffusion.kl import NormalKlSaved, normal_kl, normal_kl_backward
from tinyddpm.diffusion.learned_variance import (
    learned_log_variance,
    learned_log_variance_backward,
)
from tinyddpm.diffusion.losses import Objective
from tinyddpm.diffusion.schedule import NoiseSchedule
from tinyddpm.gradcheck.complex_step import Case

Draw = Callable[..., Array]

SHAPE = (3, 2, 2, 2)
TIMES = np.array([2, 5, 8])
SCHEDULE = NoiseSchedule.cosine(8)


def loss_cases(seed: int = 0) -> Iterator[Case]:
    """Yield the cases at points drawn from ``seed``."""
    draw: Draw = np.random.Generator(np.random.Philox(seed)).standard_normal
    yield _normal_kl(draw)
    yield _learned_log_variance(draw)
    yield _decoder(draw)
    for predict in get_args(Prediction):
        diffusion = GaussianDiffusion(SCHEDULE, predict, "learned")
        yield _predict_x0(diffusion, draw)
        yield _p_mean_variance(diffusion, draw)
        yield _bound_term(diffusion, draw, clip=False)
        yield _bound_term(diffusion, draw, clip=True)
        yield _bound_term_with_decoder(diffusion, draw)
        yield _image_losses(GaussianDiffusion(SCHEDULE, predict), "simple", draw)
        yield _image_losses(GaussianDiffusion(SCHEDULE, predict), "vlb", draw)
        yield _image_losses(diffusion, "vlb", draw)
        yield _hybrid(diffusion, draw)


def _normal_kl(draw: Draw) -> Case:
    first = draw(SHAPE), draw(SHAPE)

    def forward(mean2: Array, log_variance2: Array) -> tuple[Array, NormalKlSaved]:
        saved = NormalKlSaved(*first, mean2, log_variance2)
        return normal_kl(*saved), saved

    return Case("normal_kl", forward, normal_kl_backward, (draw(SHAPE), draw(SHAPE)))


def _learned_log_variance(draw: Draw) -> Case:
    ends = draw((3, 1, 1, 1)), draw((3, 1, 1, 1))

    def forward(v: Array) -> tuple[Array, Any]:
        return learned_log_variance(v, *ends)

    def backward(dlog_variance: Array, saved: Any) -> tuple[Array]:
        return (learned_log_variance_backward(dlog_variance, saved),)

    return Case("learned_log_variance", forward, backward, (draw(SHAPE),))


def _decoder(draw: Draw) -> Case:
    x0 = LEVELS[[0, 1, 127, 128, 254, 255]]
    inputs = x0 + 0.02 * draw(6), 2.0 * np.log(0.01) + 0.3 * draw(6)

    def forward(mean: Array, log_variance: Array) -> tuple[Array, Any]:
        _, saved = log_probability(x0, mean.real, log_variance.real)
        return _log_integral(x0, mean, log_variance), saved

    return Case("log_probability, the decoder", forward, log_probability_backward, inputs)


def _log_integral(x0: Array, mean: Array, log_variance: Array) -> Array:
    """log ∫ 𝒩(y; mean, variance) dy over each bin, for x0 (M,); 32 panels of 16 nodes."""
    reach = 14.0 * np.exp(0.5 * log_variance.real)
    lower = np.where(x0 == -1.0, np.minimum(x0 - HALF_BIN, mean.real) - reach, x0 - HALF_BIN)
    upper = np.where(x0 == 1.0, np.maximum(x0 + HALF_BIN, mean.real) + reach, x0 + HALF_BIN)
    nodes, weights = np.polynomial.legendre.leggauss(16)
    places = ((np.arange(32)[:, None] + 0.5 * (nodes + 1.0)) / 32.0).ravel()
    y = lower[:, None] + (upper - lower)[:, None] * places
    scaled = (y - mean[:, None]) ** 2 * np.exp(-log_variance)[:, None]
    density = np.exp(-0.5 * (scaled + log_variance[:, None] + np.log(2.0 * np.pi)))
    integral: Array = (density @ np.tile(weights, 32)) * (upper - lower) / 64.0
    return np.log(integral)


def _predict_x0(diffusion: GaussianDiffusion, draw: Draw) -> Case:
    xt, v = draw(SHAPE), draw(SHAPE)

    def forward(prediction: Array) -> tuple[Array, None]:
        output = np.concatenate([prediction, v], axis=-1)
        return diffusion.predict_x0(xt, TIMES, output), None

    def backward(dx0_hat: Array, _: None) -> tuple[Array]:
        return (diffusion.predict_x0_backward(dx0_hat, TIMES),)

    return Case(f"predict_x0, {diffusion.predict}", forward, backward, (draw(SHAPE),))


def _p_mean_variance(diffusion: GaussianDiffusion, draw: Draw) -> Case:
    xt = draw(SHAPE)

    def forward(output: Array) -> tuple[Array, None]:
        reverse = diffusion.p_mean_variance(output, xt, TIMES, clip=False)
        return np.stack([reverse.x0_hat, reverse.log_variance]), None

    def backward(dy: Array, _: None) -> tuple[Array]:
        dx0_hat, dlog_variance = dy
        return (diffusion.p_mean_variance_backward(dx0_hat, dlog_variance, TIMES),)

    return Case(f"p_mean_variance, {diffusion.predict}", forward, backward, (_output(draw),))


def _bound_term(diffusion: GaussianDiffusion, draw: Draw, *, clip: bool) -> Case:
    x0, xt = draw(SHAPE), draw(SHAPE)

    def forward(output: Array) -> tuple[Array, Any]:
        return diffusion.bound_term(output, x0, xt, TIMES, clip=clip)

    def backward(dnats: Array, saved: Any) -> tuple[Array]:
        return (diffusion.bound_term_backward(dnats, saved),)

    name = f"bound_term, {diffusion.predict}" + (", clipped" if clip else "")
    return Case(name, forward, backward, (_output(draw),))


def _bound_term_with_decoder(diffusion: GaussianDiffusion, draw: Draw) -> Case:
    """Images at t = 1 among others: L_0 as the integral, the other terms by themselves."""
    times, xt = np.array([1, 5, 1]), draw(SHAPE)
    x0 = LEVELS[np.resize([0, 1, 127, 128, 254, 255], SHAPE)]
    first, others = times == 1, times > 1

    def forward(output: Array) -> tuple[Array, Any]:
        _, saved = diffusion.bound_term(output.real, x0, xt, times, clip=False)
        reverse = diffusion.p_mean_variance(output[first], xt[first], 1, clip=False)
        at_1 = x0[first].ravel(), reverse.x0_hat.ravel(), reverse.log_variance.ravel()
        nats = np.empty(len(times), output.dtype)
        nats[first] = -_log_integral(*at_1).reshape(len(x0[first]), -1).sum(axis=1)
        rest = output[others], x0[others], xt[others], times[others]
        nats[others], _ = diffusion.bound_term(*rest, clip=False)
        return nats, saved

    def backward(dnats: Array, saved: Any) -> tuple[Array]:
        return (diffusion.bound_term_backward(dnats, saved),)

    return Case(f"bound_term, {diffusion.predict}, t = 1", forward, backward, (_output(draw),))


def _image_losses(diffusion: GaussianDiffusion, objective: Objective, draw: Draw) -> Case:
    x0, xt, eps = draw(SHAPE), draw(SHAPE), draw(SHAPE)

    def forward(output: Array) -> tuple[Array, Any]:
        return diffusion.image_losses(output, x0, xt, eps, TIMES, objective=objective)

    def backward(dlosses: Array, saved: Any) -> tuple[Array]:
        return (diffusion.image_losses_backward(dlosses, saved),)

    name = f"image_losses, {objective}, {diffusion.predict}, {diffusion.variance}"
    output = _output(draw) if diffusion.variance == "learned" else draw(SHAPE)
    return Case(name, forward, backward, (output,))


def _hybrid(diffusion: GaussianDiffusion, draw: Draw) -> Case:
    """The hybrid as a function of v: for the prediction its gradient is another's, by intent."""
    x0, xt, eps, prediction = draw(SHAPE), draw(SHAPE), draw(SHAPE), draw(SHAPE)

    def forward(v: Array) -> tuple[Array, Any]:
        output = np.concatenate([prediction, v], axis=-1)
        return diffusion.image_losses(output, x0, xt, eps, TIMES, objective="hybrid")

    def backward(dlosses: Array, saved: Any) -> tuple[Array]:
        doutput = diffusion.image_losses_backward(dlosses, saved)
        return (doutput[..., SHAPE[-1] :],)

    return Case(f"image_losses, hybrid, {diffusion.predict}", forward, backward, (draw(SHAPE),))


def _output(draw: Draw) -> Array:
    return draw((*SHAPE[:-1], 2 * SHAPE[-1]))
