"""Data whose best model is known exactly: ε*(x, t) = E[ε | x_t = x], with nothing to train.

By Tweedie's formula ε* = −√(1 − ᾱ_t) ∇ log q_t, with q_t the density of x_t. Three kinds of data:

    Gaussian    x_0 ~ 𝒩(m, s²), pixel by pixel     v = ᾱ_t s² + 1 − ᾱ_t
                ε* = √(1 − ᾱ_t) (x − √ᾱ_t m)/v

    mixture     x_0 ~ Σ_k w_k 𝒩(m_k, s_k² I)   v_k = ᾱ_t s_k² + 1 − ᾱ_t
                r_k ∝ w_k 𝒩(x; √ᾱ_t m_k, v_k I)
                ε* = √(1 − ᾱ_t) Σ_k r_k (x − √ᾱ_t m_k)/v_k

    finite      x_0 is one of n images x_i     r = softmax_i(−‖x − √ᾱ_t x_i‖²/2(1 − ᾱ_t))
                ε* = (x − √ᾱ_t Σ_i r_i x_i)/√(1 − ᾱ_t)

A network that learns its training images by heart tends to the last. Each oracle is a model
``oracle(xt, t)`` for chains that ``predict`` eps: it takes x_t (N, H, W, C) and the original
chain's t (N,), computes ε* (N, H, W, C) in float64 and returns it in the dtype of x_t. Images of
another shape than the data's and images of integers raise a UsageError.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tinyddpm.arrays import Array, IntArray, xp_of
from tinyddpm.diffusion.arguments import check_images, check_times
from tinyddpm.diffusion.per_image import per_image
from tinyddpm.diffusion.schedule import NoiseSchedule
from tinyddpm.errors import UsageError
from tinyddpm.ops.softmax import softmax


class GaussianOracle:
    """Independent pixels: x_0 ~ 𝒩(mean, variance).

    Args:
        schedule: the original chain's.
        mean: (H, W, C), or a number for all pixels.
        variance: likewise, each at least 0.

    Raises:
        UsageError: a variance is negative.
    """

    def __init__(
        self, schedule: NoiseSchedule, mean: npt.ArrayLike, variance: npt.ArrayLike
    ) -> None:
        self.schedule = schedule
        self.mean = np.asarray(mean, np.float64)
        self.variance = np.asarray(variance, np.float64)
        _check_variances(self.variance)

    def __call__(self, xt: Array, t: IntArray) -> Array:
        """Return ε* (N, H, W, C)."""
        xp = xp_of(xt)
        for parameter in (self.mean, self.variance):
            _check_shape(xt, parameter.shape or xt.shape[1:])
        x, alpha_bar, noise2 = _in_float64(self.schedule, xt, t)
        off_centre = x - xp.sqrt(alpha_bar) * xp.asarray(self.mean)
        v = alpha_bar * xp.asarray(self.variance) + noise2
        eps: Array = xp.sqrt(noise2) * off_centre / v
        return eps.astype(xt.dtype)


class MixtureOracle:
    """Images of several kinds: x_0 ~ Σ_k weights_k 𝒩(means_k, variances_k I).

    ε* = −√(1 − ᾱ_t) ∇ log q_t (Tweedie's formula) = √(1 − ᾱ_t) Σ_k r_k (x − √ᾱ_t m_k)/v_k, with
    v_k = ᾱ_t s_k² + 1 − ᾱ_t and r_k ∝ w_k 𝒩(x; √ᾱ_t m_k, v_k I).

    Args:
        schedule: the original chain's.
        weights: (K,) positive; they are divided by their sum.
        means: (K, H, W, C).
        variances: (K,), each at least 0.

    Raises:
        UsageError: there are not as many of one as of the others, or one is out of range.
    """

    def __init__(
        self,
        schedule: NoiseSchedule,
        weights: npt.ArrayLike,
        means: npt.ArrayLike,
        variances: npt.ArrayLike,
    ) -> None:
        self.schedule = schedule
        self.weights = np.asarray(weights, np.float64)
        self.means = np.asarray(means, np.float64)
        self.variances = np.asarray(variances, np.float64)
        if not self.weights.shape == self.variances.shape == self.means.shape[:1] != (0,):
            raise UsageError(
                "each kind of a mixture has its weight, mean and variance",
                cause=f"{self.weights.shape}, {self.means.shape}, {self.variances.shape}",
            )
        if not np.all(self.weights > 0.0):
            raise UsageError("weights must be positive", cause=f"the least is {self.weights.min()}")
        _check_variances(self.variances)
        self.weights = self.weights / self.weights.sum()

    def __call__(self, xt: Array, t: IntArray) -> Array:
        """Return ε* (N, H, W, C)."""
        xp = xp_of(xt)
        _check_shape(xt, self.means.shape[1:])
        x, alpha_bar, noise2 = _in_float64(self.schedule, xt, t)
        n, k = len(xt), len(self.weights)
        off_centre = x[:, None] - xp.sqrt(alpha_bar)[:, None] * xp.asarray(self.means)
        off_centre = off_centre.reshape(n, k, self.means[0].size)
        v = alpha_bar.reshape(n, 1) * xp.asarray(self.variances) + noise2.reshape(n, 1)
        squares = (off_centre * off_centre).sum(axis=-1)
        # log w_k + log 𝒩(x; …), up to a constant; softmax takes away the largest before exp.
        r, _ = softmax(
            xp.asarray(np.log(self.weights))
            - 0.5 * (off_centre.shape[-1] * xp.log(v) + squares / v)
        )
        centred = ((r / v)[..., None] * off_centre).sum(axis=1)
        eps: Array = xp.sqrt(noise2) * centred.reshape(xt.shape)
        return eps.astype(xt.dtype)


class FiniteDataOracle:
    """A data set learnt by heart: x_0 is one of ``images``, all equally likely.

    Args:
        schedule: the original chain's.
        images: (n, H, W, C).

    Raises:
        UsageError: there are no images.
    """

    def __init__(self, schedule: NoiseSchedule, images: npt.ArrayLike) -> None:
        self.schedule = schedule
        self.images = np.asarray(images, np.float64)
        if self.images.ndim < 1 or len(self.images) == 0:
            raise UsageError(
                "a data set has at least one image", cause=f"its shape is {self.images.shape}"
            )

    def __call__(self, xt: Array, t: IntArray) -> Array:
        """Return ε* (N, H, W, C)."""
        xp = xp_of(xt)
        _check_shape(xt, self.images.shape[1:])
        x, alpha_bar, noise2 = _in_float64(self.schedule, xt, t)
        signal = xp.sqrt(alpha_bar)
        column = (len(xt), 1)
        flat = xp.asarray(self.images).reshape(len(self.images), -1)
        # ‖x − √ᾱ x_i‖² without ‖x‖², the same for all i, takes one matrix product, (N, n).
        scalar_products = (signal * x).reshape(len(xt), flat.shape[1]) @ flat.T
        squares = alpha_bar.reshape(column) * (flat * flat).sum(axis=-1)
        r, _ = softmax((scalar_products - 0.5 * squares) / noise2.reshape(column))
        x0 = (r @ flat).reshape(xt.shape)
        eps: Array = (x - signal * x0) / xp.sqrt(noise2)
        return eps.astype(xt.dtype)


def _in_float64(schedule: NoiseSchedule, xt: Array, t: IntArray) -> tuple[Array, Array, Array]:
    """x_t, ᾱ_t and 1 − ᾱ_t in float64, the latter two (N, 1, 1, 1)."""
    check_images(xt=xt)
    x = xt.astype(np.float64)
    times = check_times(t, len(x), first=1, last=schedule.T)
    alpha_bar = per_image(schedule.alpha_bar, times, x)
    return x, alpha_bar, per_image(schedule.one_minus_alpha_bar, times, x)


def _check_shape(xt: Array, shape: tuple[int, ...]) -> None:
    if xt.shape[1:] != shape:
        raise UsageError(
            f"this oracle knows images of shape {shape}", cause=f"x_t has {xt.shape[1:]}"
        )


def _check_variances(variances: Array) -> None:
    if not np.all(variances >= 0.0):
        raise UsageError("a variance cannot be negative", cause=f"the least is {variances.min()}")
