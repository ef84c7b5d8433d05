"""The two chains of Gaussians: q adds noise, p takes it away (Ho et al. 2020, arXiv 2006.11239).

    q(x_t | x_{t−1})       x_t = √(1 − β_t) x_{t−1} + √β_t ε                         eq. 2
    q(x_t | x_0)           x_t = √ᾱ_t x_0 + √(1 − ᾱ_t) ε                             eq. 4
    q(x_{t−1} | x_t, x_0)  𝒩(μ̃_t(x_t, x_0), β̃_t I)                                   eq. 6
        μ̃_t = √ᾱ_{t−1} β_t/(1 − ᾱ_t) x_0 + √α_t (1 − ᾱ_{t−1})/(1 − ᾱ_t) x_t           eq. 7
    p(x_{t−1} | x_t)       𝒩(μ̃_t(x_t, x̂_0), σ_t² I),   σ_t² = β_t or β̃_t

What the network gives is ε, x_0, or v = √ᾱ_t ε − √(1 − ᾱ_t) x_0 (Salimans & Ho 2022, arXiv
2202.00512, which makes (x_t, v) a rotation of (x_0, ε)); each gives x̂_0:

    x̂_0 = (x_t − √(1 − ᾱ_t) ε) / √ᾱ_t         x̂_0 = √ᾱ_t x_t − √(1 − ᾱ_t) v

and L_simple is the mean square of its error (eq. 14).
"""

from __future__ import annotations

from typing import Literal, NamedTuple, Self, get_args

import numpy as np

from tinyddpm.arrays import Array, IntArray, xp_of
from tinyddpm.diffusion import sampling
from tinyddpm.diffusion.lookup import check_images, check_times, per_image
from tinyddpm.diffusion.respacing import respaced_schedule, strided_timesteps
from tinyddpm.diffusion.schedule import NoiseSchedule, Table
from tinyddpm.errors import UsageError
from tinyddpm.ops.mean_square import mean_square, mean_square_backward

Prediction = Literal["eps", "x0", "v"]
Variance = Literal["beta", "beta_tilde"]


class Reverse(NamedTuple):
    """p(x_{t−1} | x_t), and the image it foresees."""

    mean: Array  # (N, H, W, C)
    variance: Array  # (N, 1, 1, 1)
    log_variance: Array  # (N, 1, 1, 1)
    x0_hat: Array  # (N, H, W, C)


class GaussianDiffusion:
    """A chain with its schedule, what the network predicts, and the variance of the way back.

    Everywhere below images are (N, H, W, C), and ``t`` is the paper's t in this chain: an integer,
    or an (N,) array with one for each image. Results have the dtype of the images. A ``t`` out of
    range, images of different shapes, or of integers, are a UsageError.

    Args:
        schedule: β and what follows from it.
        predict: what the network's output stands for, ``eps``, ``x0`` or ``v``.
        variance: σ_t², ``beta`` (right for x_0 ~ 𝒩(0, I)) or ``beta_tilde`` (for a single x_0).
        timesteps: (T + 1,) the t of the original chain at each t of this one; by default the same.

    Raises:
        UsageError: an unknown ``predict`` or ``variance``, or ``timesteps`` of another length.
    """

    def __init__(
        self,
        schedule: NoiseSchedule,
        predict: Prediction = "eps",
        variance: Variance = "beta",
        *,
        timesteps: IntArray | None = None,
    ) -> None:
        _check_choice("predict", predict, get_args(Prediction))
        _check_choice("variance", variance, get_args(Variance))
        self.schedule = schedule
        self.predict = predict
        self.variance = variance
        self.timesteps = np.arange(schedule.T + 1) if timesteps is None else timesteps
        if self.timesteps.shape != (schedule.T + 1,):
            raise UsageError(
                f"timesteps must name the original t of 0 ... {schedule.T}",
                cause=f"its shape is {self.timesteps.shape}",
            )
        self._signal = np.sqrt(schedule.alpha_bar)
        self._noise = np.sqrt(schedule.one_minus_alpha_bar)
        self._posterior_x0, self._posterior_xt = _posterior_coefficients(schedule)
        self._reverse_variance = _reverse_variance(schedule, variance)

    def q_step(self, x_prev: Array, t: int | IntArray, eps: Array) -> Array:
        """Return x_t from x_{t−1} and standard normal noise: one step of the forward chain."""
        check_images(x_prev=x_prev, eps=eps)
        times = self._times(t, x_prev)
        signal = per_image(np.sqrt(self.schedule.alpha), times, x_prev)
        noise = per_image(np.sqrt(self.schedule.beta), times, x_prev)
        xt: Array = signal * x_prev + noise * eps
        return xt

    def q_sample(self, x0: Array, t: int | IntArray, eps: Array) -> Array:
        """Return x_t from x_0 and standard normal noise, all steps in one; t = 0 gives x_0."""
        check_images(x0=x0, eps=eps)
        signal, noise = self._rates(t, x0, first=0)
        xt: Array = signal * x0 + noise * eps
        return xt

    def q_posterior(self, x0: Array, xt: Array, t: int | IntArray) -> tuple[Array, Array]:
        """Return the mean and the variance (N, 1, 1, 1) of q(x_{t−1} | x_t, x_0)."""
        check_images(x0=x0, xt=xt)
        times = self._times(t, xt)
        from_x0 = per_image(self._posterior_x0, times, xt) * x0
        mean = from_x0 + per_image(self._posterior_xt, times, xt) * xt
        return mean, per_image(self.schedule.beta_tilde, times, xt)

    def predict_x0(self, xt: Array, t: int | IntArray, output: Array) -> Array:
        """Return x̂_0, not clipped, from x_t and the network's ``output``."""
        check_images(xt=xt, output=output)
        signal, noise = self._rates(t, xt)
        x0_hat = output
        if self.predict == "eps":
            x0_hat = (xt - noise * output) / signal
        elif self.predict == "v":
            x0_hat = signal * xt - noise * output
        return x0_hat

    def predict_eps(self, xt: Array, t: int | IntArray, x0: Array) -> Array:
        """Return the noise that leads from ``x0``, true or predicted, to x_t."""
        check_images(xt=xt, x0=x0)
        signal, noise = self._rates(t, xt)
        eps: Array = (xt - signal * x0) / noise
        return eps

    def velocity(self, x0: Array, t: int | IntArray, eps: Array) -> Array:
        """Return v = √ᾱ_t ε − √(1 − ᾱ_t) x_0."""
        check_images(x0=x0, eps=eps)
        signal, noise = self._rates(t, x0)
        v: Array = signal * eps - noise * x0
        return v

    def p_mean_variance(
        self, output: Array, xt: Array, t: int | IntArray, *, clip: bool = True
    ) -> Reverse:
        """Return p(x_{t−1} | x_t): its mean, variance, log-variance, and x̂_0.

        ``clip`` holds x̂_0 in [−1, 1], and with it the mean, which is made from the clipped x̂_0.
        The variance at t = 1, which only a likelihood uses, is β̃_2 for both kinds (β_1 if T = 1).
        """
        times = self._times(t, xt)
        x0_hat = self.predict_x0(xt, times, output)
        if clip:
            x0_hat = xp_of(x0_hat).clip(x0_hat, -1.0, 1.0)
        mean, _ = self.q_posterior(x0_hat, xt, times)
        variance = per_image(self._reverse_variance, times, xt)
        log_variance = per_image(np.log(self._reverse_variance), times, xt)
        return Reverse(mean, variance, log_variance, x0_hat)

    def target(self, x0: Array, eps: Array, t: int | IntArray) -> Array:
        """Return what the network's output should be: ε, x_0 or v."""
        if self.predict == "v":
            return self.velocity(x0, t, eps)
        return eps if self.predict == "eps" else x0

    def loss(
        self, output: Array, x0: Array, xt: Array, eps: Array, t: int | IntArray
    ) -> tuple[Array, Array]:
        """Return L_simple and its gradient.

        Args:
            output: what the network gave for ``xt`` and ``t``.
            x0: the images.
            xt: the noised images, q_sample(x0, t, eps).
            eps: the noise.
            t: the times.

        Returns:
            The mean over all elements of the batch of (output − target)², a 0-d array, and its
            derivative by ``output``, of output's shape.
        """
        check_images(output=output, x0=x0, xt=xt, eps=eps)
        value, saved = mean_square(output, self.target(x0, eps, self._times(t, xt)))
        return value, mean_square_backward(1.0, saved)

    def loss_per_image(
        self, output: Array, x0: Array, xt: Array, eps: Array, t: int | IntArray
    ) -> Array:
        """Return the mean square error of each image, (N,); their mean is the value of ``loss``."""
        check_images(output=output, x0=x0, xt=xt, eps=eps)
        error = output - self.target(x0, eps, self._times(t, xt))
        per_image_error: Array = (error * error).mean(axis=tuple(range(1, error.ndim)))
        return per_image_error

    def respace(self, steps: int) -> Self:
        """Return the chain that reaches x_0 in ``steps`` strides, for the same network.

        Its ᾱ are some of this chain's, and its ``timesteps`` say which t the network is given.

        Raises:
            UsageError: ``steps`` is not in 1 … T.
        """
        kept = strided_timesteps(self.schedule.T, steps)
        if steps == self.schedule.T:
            return self
        schedule = respaced_schedule(self.schedule, kept)
        return type(self)(schedule, self.predict, self.variance, timesteps=self.timesteps[kept])

    sample_steps = sampling.sample_steps
    sample = sampling.sample

    def _times(self, t: int | IntArray, x: Array, *, first: int = 1) -> IntArray:
        return check_times(t, len(x), first=first, last=self.schedule.T)

    def _rates(self, t: int | IntArray, x: Array, *, first: int = 1) -> tuple[Array, Array]:
        """√ᾱ_t and √(1 − ᾱ_t), (N, 1, 1, 1) each."""
        times = self._times(t, x, first=first)
        return per_image(self._signal, times, x), per_image(self._noise, times, x)


def _check_choice(name: str, choice: str, choices: tuple[str, ...]) -> None:
    if choice not in choices:
        raise UsageError(f"unknown {name} {choice!r}", remedy=", ".join(choices))


def _posterior_coefficients(schedule: NoiseSchedule) -> tuple[Table, Table]:
    """The weights of x_0 and x_t in μ̃_t, (T + 1,) each; entry 0 is 0."""
    from_x0, from_xt = np.zeros_like(schedule.beta), np.zeros_like(schedule.beta)
    noise_before, noise = schedule.one_minus_alpha_bar[:-1], schedule.one_minus_alpha_bar[1:]
    from_x0[1:] = np.sqrt(schedule.alpha_bar[:-1]) * schedule.beta[1:] / noise
    from_xt[1:] = np.sqrt(schedule.alpha[1:]) * noise_before / noise
    return from_x0, from_xt


def _reverse_variance(schedule: NoiseSchedule, variance: Variance) -> Table:
    """σ_t², (T + 1,). β̃_1 is 0, so both kinds take β̃_2 at t = 1; entry 0 repeats it, unused."""
    table = np.array(schedule.beta if variance == "beta" else schedule.beta_tilde)
    table[:2] = schedule.beta_tilde[2] if schedule.T > 1 else schedule.beta[1]
    return table
