"""The two chains of Gaussians: q adds noise, p takes it away (Ho et al. 2020, arXiv 2006.11239).

    q(x_t | x_{t−1})       x_t = √(1 − β_t) x_{t−1} + √β_t ε                         eq. 2
    q(x_t | x_0)           x_t = √ᾱ_t x_0 + √(1 − ᾱ_t) ε                             eq. 4
    q(x_{t−1} | x_t, x_0)  𝒩(μ̃_t(x_t, x_0), β̃_t I)                                   eq. 6
        μ̃_t = √ᾱ_{t−1} β_t/(1 − ᾱ_t) x_0 + √α_t (1 − ᾱ_{t−1})/(1 − ᾱ_t) x_t           eq. 7
    p(x_{t−1} | x_t)       𝒩(μ̃_t(x_t, x̂_0), σ_t² I),   σ_t² = β_t or β̃_t, or learned between them

What the network gives is ε, x_0, v = √ᾱ_t ε − √(1 − ᾱ_t) x_0 (Salimans & Ho 2022, arXiv
2202.00512, which makes (x_t, v) a rotation of (x_0, ε)), or the score s = −ε/√(1 − ᾱ_t); each
gives x̂_0:

    x̂_0 = (x_t − √(1 − ᾱ_t) ε)/√ᾱ_t = √ᾱ_t x_t − √(1 − ᾱ_t) v = (x_t + (1 − ᾱ_t) s)/√ᾱ_t

and a learned variance has as many channels again, behind the prediction.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, Self, get_args

import numpy as np

from tinyddpm.arrays import Array, IntArray, xp_of
from tinyddpm.diffusion import bound, ddim, losses, sampling
from tinyddpm.diffusion.arguments import check_choice, check_images, check_times
from tinyddpm.diffusion.learned_variance import (
    LogVarianceSaved,
    learned_log_variance,
    learned_log_variance_backward,
)
from tinyddpm.diffusion.per_image import per_image
from tinyddpm.diffusion.respacing import check_timesteps, respaced_schedule, strided_timesteps
from tinyddpm.diffusion.schedule import NoiseSchedule, Table
from tinyddpm.errors import UsageError

Prediction = Literal["eps", "x0", "v", "score"]
Variance = Literal["beta", "beta_tilde", "learned"]


class Reverse(NamedTuple):
    """p(x_{t−1} | x_t), and the image x̂_0 that it foresees."""

    mean: Array  # (N, H, W, C)
    variance: Array  # (N, 1, 1, 1), or (N, H, W, C) if it is learned
    log_variance: Array  # of the same shape
    x0_hat: Array  # (N, H, W, C)


class GaussianDiffusion:
    """A chain with its schedule, what the network predicts, and the variance of the way back.

    Everywhere below images are (N, H, W, C), and ``t`` is the paper's t in this chain: an integer,
    or an (N,) array with one for each image. Results have the dtype of the images, if all the
    images have the same. A ``t`` out of range, images of different shapes and images of integers
    raise a UsageError. The network's output has as many channels as the images or, if the variance
    is learned, twice as many: the prediction, then v.

    Args:
        schedule: β and what follows from it.
        predict: what the network's output stands for, ``eps``, ``x0``, ``v`` or ``score``.
        variance: σ_t², ``beta`` (right for x_0 ~ 𝒩(0, I)), ``beta_tilde`` (for a single x_0), or
            ``learned``, between the two.
        timesteps: (T + 1,) the original chain's t for each t of this one; by default the same.

    Attributes:
        posterior_from_x0: (T + 1,) the weight of x_0 in μ̃_t; entry 0 is 0.
        log_variance_ends: log β̃_t, with β̃_2 at t = 1, and log β_t, (T + 1,) each; entry 0 repeats
            entry 1.

    Raises:
        UsageError: ``schedule`` is not a NoiseSchedule, ``predict`` or ``variance`` is unknown, or
            ``timesteps`` are not T + 1 whole numbers that rise from 0.
    """

    def __init__(
        self,
        schedule: NoiseSchedule,
        predict: Prediction = "eps",
        variance: Variance = "beta",
        *,
        timesteps: IntArray | None = None,
    ) -> None:
        check_choice("predict", predict, get_args(Prediction))
        check_choice("variance", variance, get_args(Variance))
        if not isinstance(schedule, NoiseSchedule):
            raise UsageError(
                "a diffusion is made of a NoiseSchedule",
                cause=f"got {type(schedule).__name__}",
                remedy="GaussianDiffusion(NoiseSchedule.linear(1000)), .cosine or .from_beta",
            )
        self.schedule = schedule
        self.predict = predict
        self.variance = variance
        self.timesteps = np.arange(schedule.T + 1) if timesteps is None else np.asarray(timesteps)
        check_timesteps(self.timesteps, schedule.T)
        self._signal = np.sqrt(schedule.alpha_bar)
        self._noise = np.sqrt(schedule.one_minus_alpha_bar)
        self.posterior_from_x0, self._posterior_from_xt = _posterior_weights(schedule)
        self._fixed_variance = _fixed_variance(schedule, variance)
        self.log_variance_ends = _log_variance_ends(schedule)

    def q_step(self, x_prev: Array, t: int | IntArray, eps: Array) -> Array:
        """Return x_t from x_{t−1} and standard normal noise: one step of the forward chain.

        x_t = √(1 − β_t) x_{t−1} + √β_t ε (Ho et al. 2020, eq. 2).
        """
        check_images(x_prev=x_prev, eps=eps)
        times = self._times(t, x_prev)
        signal = per_image(np.sqrt(self.schedule.alpha), times, x_prev)
        noise = per_image(np.sqrt(self.schedule.beta), times, x_prev)
        xt: Array = signal * x_prev + noise * eps
        return xt

    def q_sample(self, x0: Array, t: int | IntArray, eps: Array) -> Array:
        """Return x_t from x_0 and standard normal noise, all steps in one; t = 0 gives x_0.

        x_t = √ᾱ_t x_0 + √(1 − ᾱ_t) ε (Ho et al. 2020, eq. 4).
        """
        check_images(x0=x0, eps=eps)
        signal, noise = self._rates(t, x0, first=0)
        xt: Array = signal * x0 + noise * eps
        return xt

    def q_posterior(self, x0: Array, xt: Array, t: int | IntArray) -> tuple[Array, Array]:
        """Return the mean and the variance (N, 1, 1, 1) of q(x_{t−1} | x_t, x_0).

        μ̃_t = √ᾱ_{t−1} β_t/(1 − ᾱ_t) x_0 + √α_t (1 − ᾱ_{t−1})/(1 − ᾱ_t) x_t and
        β̃_t = (1 − ᾱ_{t−1})/(1 − ᾱ_t) β_t (Ho et al. 2020, eq. 6 and 7).
        """
        check_images(x0=x0, xt=xt)
        times = self._times(t, xt)
        from_x0 = per_image(self.posterior_from_x0, times, xt) * x0
        mean = from_x0 + per_image(self._posterior_from_xt, times, xt) * xt
        return mean, per_image(self.schedule.beta_tilde, times, xt)

    def split(self, output: Array, xt: Array) -> tuple[Array, Array | None]:
        """Return the prediction and v, (N, H, W, C) like ``xt``; v is None unless σ² is learned.

        Raises:
            UsageError: the output does not have the channels that the variance asks for.
        """
        if self.variance != "learned":
            check_images(xt=xt, output=output)
            return output, None
        check_images(xt=xt)
        shape = getattr(output, "shape", type(output).__name__)
        if shape != (*xt.shape[:-1], 2 * xt.shape[-1]):
            raise UsageError(
                "a learned variance doubles the channels of the output: the prediction, then v",
                cause=f"output {shape} for xt {xt.shape}",
            )
        check_images(output=output)
        return output[..., : xt.shape[-1]], output[..., xt.shape[-1] :]

    def predict_x0(self, xt: Array, t: int | IntArray, output: Array) -> Array:
        """Return x̂_0, not clipped, from x_t and the network's ``output``.

        If the network predicts ε, x̂_0 = (x_t − √(1 − ᾱ_t) ε̂)/√ᾱ_t (Ho et al. 2020, eq. 15); if v,
        √ᾱ_t x_t − √(1 − ᾱ_t) v; if the score, (x_t + (1 − ᾱ_t) s)/√ᾱ_t.
        """
        output, _ = self.split(output, xt)
        signal, noise = self._rates(t, xt)
        x0_hat = output
        if self.predict == "eps":
            x0_hat = (xt - noise * output) / signal
        elif self.predict == "v":
            x0_hat = signal * xt - noise * output
        elif self.predict == "score":
            x0_hat = (xt + noise * noise * output) / signal
        return x0_hat

    def predict_x0_backward(self, dx0_hat: Array, t: int | IntArray) -> Array:
        """Return the gradient of the prediction from that of x̂_0, both (N, H, W, C)."""
        check_images(dx0_hat=dx0_hat)
        signal, noise = self._rates(t, dx0_hat)
        if self.predict == "eps":
            return -noise / signal * dx0_hat
        if self.predict == "score":
            return noise * noise / signal * dx0_hat
        return -noise * dx0_hat if self.predict == "v" else dx0_hat

    def predict_eps(self, xt: Array, t: int | IntArray, x0: Array) -> Array:
        """Return the noise that leads from ``x0``, true or predicted, to x_t.

        ε = (x_t − √ᾱ_t x_0)/√(1 − ᾱ_t): Ho et al. 2020, eq. 4, solved for ε.
        """
        check_images(xt=xt, x0=x0)
        signal, noise = self._rates(t, xt)
        eps: Array = (xt - signal * x0) / noise
        return eps

    def velocity(self, x0: Array, t: int | IntArray, eps: Array) -> Array:
        """Return v = √ᾱ_t ε − √(1 − ᾱ_t) x_0 (Salimans & Ho 2022, appendix D)."""
        check_images(x0=x0, eps=eps)
        signal, noise = self._rates(t, x0)
        v: Array = signal * eps - noise * x0
        return v

    def p_mean_variance(
        self, output: Array, xt: Array, t: int | IntArray, *, clip: bool = True
    ) -> Reverse:
        """Return p(x_{t−1} | x_t): its mean, variance, log-variance, and x̂_0.

        It is 𝒩(μ̃_t(x_t, x̂_0), σ_t² I), μ̃_t as in ``q_posterior`` (Ho et al. 2020, section 3.2).
        ``clip`` holds x̂_0 in [−1, 1]; the mean is made from the clipped x̂_0. Only a likelihood uses
        the variance at t = 1. There β̃_1 is 0, and β̃_2 (β_1 if T = 1) takes the place of both fixed
        variances and of the lower end of the learned one.
        """
        x0_hat = self.predict_x0(xt, t, output)
        times = self._times(t, xt)
        if clip:
            x0_hat = xp_of(x0_hat).clip(x0_hat, -1.0, 1.0)
        mean, _ = self.q_posterior(x0_hat, xt, times)
        _, v = self.split(output, xt)
        if v is None:
            variance = per_image(self._fixed_variance, times, xt)
            log_variance = per_image(np.log(self._fixed_variance), times, xt)
        else:
            log_variance, _ = learned_log_variance(v, *self._ends(times, xt))
            variance = xp_of(v).exp(log_variance)
        return Reverse(mean, variance, log_variance, x0_hat)

    def p_mean_variance_backward(
        self, dx0_hat: Array, dlog_variance: Array, t: int | IntArray
    ) -> Array:
        """Return ``doutput`` from the gradients of the unclipped x̂_0 and of log σ².

        Both are (N, H, W, C); ``doutput`` has the channels of the network's output. If σ² is fixed,
        the second is not used.
        """
        dprediction = self.predict_x0_backward(dx0_hat, t)
        if self.variance != "learned":
            return dprediction
        ends = LogVarianceSaved(*self._ends(self._times(t, dx0_hat), dx0_hat))
        dv = learned_log_variance_backward(dlog_variance, ends)
        doutput: Array = xp_of(dv).concatenate([dprediction, dv], axis=-1)
        return doutput

    def target(self, x0: Array, eps: Array, t: int | IntArray) -> Array:
        """Return what the prediction should be: ε, x_0, v or the score −ε/√(1 − ᾱ_t)."""
        check_images(x0=x0, eps=eps)
        _, noise = self._rates(t, x0)
        if self.predict == "v":
            return self.velocity(x0, t, eps)
        if self.predict == "score":
            return -eps / noise
        return eps if self.predict == "eps" else x0

    def error_scale(self, t: int | IntArray, x: Array) -> Array | float:
        """Return the factor of the prediction's error in the loss, before the error is squared.

        It is √(1 − ᾱ_t), (N, 1, 1, 1), for the score, which turns its error into that of ε, and 1
        for the other predictions.
        """
        return self._rates(t, x)[1] if self.predict == "score" else 1.0

    image_losses = losses.image_losses
    image_losses_backward = losses.image_losses_backward
    loss = losses.loss

    bound_term = bound.bound_term
    bound_term_backward = bound.bound_term_backward
    prior_term = bound.prior_term
    vlb = bound.vlb

    def respace(self, steps: int) -> Self:
        """Return the chain that goes the same way in ``steps`` steps, for the same network.

        It keeps the times S of this chain and their ᾱ: β_k = 1 − ᾱ_{S_k}/ᾱ_{S_{k−1}} (Nichol &
        Dhariwal 2021, eq. 19). Its ``timesteps`` say which t the network is given.

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
    ddim_mean_variance = ddim.ddim_mean_variance
    ddim_steps_from = ddim.ddim_steps_from
    ddim_steps = ddim.ddim_steps
    ddim_invert_steps = ddim.ddim_invert_steps
    ddim_invert = ddim.ddim_invert
    ddim = ddim.ddim

    def _times(self, t: int | IntArray, x: Array, *, first: int = 1) -> IntArray:
        return check_times(t, len(x), first=first, last=self.schedule.T)

    def _ends(self, times: IntArray, x: Array) -> tuple[Array, Array]:
        """log β̃_t and log β_t, (N, 1, 1, 1) each."""
        lower, upper = self.log_variance_ends
        return per_image(lower, times, x), per_image(upper, times, x)

    def _rates(self, t: int | IntArray, x: Array, *, first: int = 1) -> tuple[Array, Array]:
        """√ᾱ_t and √(1 − ᾱ_t), (N, 1, 1, 1) each."""
        times = self._times(t, x, first=first)
        return per_image(self._signal, times, x), per_image(self._noise, times, x)


def _posterior_weights(schedule: NoiseSchedule) -> tuple[Table, Table]:
    """The weights of x_0 and x_t in μ̃_t, (T + 1,) each; entry 0 is 0."""
    from_x0, from_xt = np.zeros_like(schedule.beta), np.zeros_like(schedule.beta)
    noise_before, noise = schedule.one_minus_alpha_bar[:-1], schedule.one_minus_alpha_bar[1:]
    from_x0[1:] = np.sqrt(schedule.alpha_bar[:-1]) * schedule.beta[1:] / noise
    from_xt[1:] = np.sqrt(schedule.alpha[1:]) * noise_before / noise
    return from_x0, from_xt


def _fixed_variance(schedule: NoiseSchedule, variance: Variance) -> Table:
    """σ_t², (T + 1,): β_t, or else β̃_t. As β̃_1 is 0, both take β̃_2 at t = 1 (and at t = 0)."""
    table = np.array(schedule.beta if variance == "beta" else schedule.beta_tilde)
    table[:2] = schedule.beta_tilde[2] if schedule.T > 1 else schedule.beta[1]
    return table


def _log_variance_ends(schedule: NoiseSchedule) -> tuple[Table, Table]:
    """What a learned log σ² lies between."""
    upper = np.array(schedule.beta)
    upper[0] = upper[1]
    return np.log(_fixed_variance(schedule, "beta_tilde")), np.log(upper)
