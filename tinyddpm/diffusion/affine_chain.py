"""The exact likelihood of a reverse chain that is affine, and its bound, both in closed form.

log p_θ(x_0) is an integral over all x_1 … x_T, and for a network nobody can do it. If the model is
affine in each pixel (as the best one is for data that are independent Gaussians), all p(x_t) are
Gaussian:

    p(x_{t−1} | x_t) = 𝒩(a_t x_t + b_t, σ_t²)        one a_t, b_t, σ_t² for each pixel
    p(x_t) = 𝒩(m_t, s_t²)     m_T = 0,   m_{t−1}  = a_t m_t + b_t
                              s_T² = 1,  s_{t−1}² = a_t² s_t² + σ_t²
    log p(x_0) = Σ log 𝒩(x_0; m_0, s_0²)             Σ over the pixels

The bound −log p(x_0) ≤ L_0 + … + L_T (Ho et al. 2020, arXiv 2006.11239, eq. 5), here with a density
where an 8-bit image would have the discrete decoder, is exact too. With c₀, c_t the weights of x_0
and x_t in μ̃_t, and x_t = √ᾱ_t x_0 + √(1 − ᾱ_t) ε:

    d = μ̃_t − a_t x_t − b_t,   E d² = ((c₀ + (c_t − a_t) √ᾱ_t) x_0 − b_t)² + (c_t − a_t)² (1 − ᾱ_t)
    L_{t−1} = ½ Σ (log σ_t²/β̃_t + β̃_t/σ_t² − 1 + E d²/σ_t²)                              t > 1
    L_0     = ½ Σ (log 2πσ_1² + E d²/σ_1²)                  at t = 1, where μ̃_1 = x_0 and β̃_1 = 0
    L_T     = ½ Σ (ᾱ_T x_0² − ᾱ_T − log(1 − ᾱ_T))

The gap between the bound and −log p(x_0) is KL(q(x_{1:T} | x_0) ‖ p(x_{1:T} | x_0)), no more.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tinyddpm.arrays import Array
from tinyddpm.diffusion.arguments import check_images
from tinyddpm.diffusion.gaussian import GaussianDiffusion
from tinyddpm.diffusion.per_image import per_image_sum
from tinyddpm.diffusion.sampling import Model
from tinyddpm.errors import UsageError


@dataclass(frozen=True, eq=False)
class AffineChain:
    """The chain p(x_{t−1} | x_t) = 𝒩(a_t x_t + b_t, σ_t²), pixel by pixel, in float64 on the host.

    Attributes:
        diffusion: whose forward chain the bound compares it with.
        slope: (T + 1, H, W, C) a_t; entry 0 of all three tables is unused.
        shift: (T + 1, H, W, C) b_t.
        variance: (T + 1, H, W, C) σ_t².
    """

    diffusion: GaussianDiffusion
    slope: Array
    shift: Array
    variance: Array

    def marginals(self) -> tuple[Array, Array]:
        """Return the means and the variances of p(x_t), (T + 1, H, W, C) each, for t = 0 … T."""
        mean, spread = np.zeros_like(self.slope), np.ones_like(self.slope)
        for t in range(len(mean) - 1, 0, -1):
            mean[t - 1] = self.slope[t] * mean[t] + self.shift[t]
            spread[t - 1] = self.slope[t] ** 2 * spread[t] + self.variance[t]
        return mean, spread

    def sampled_moments(self) -> tuple[Array, Array]:
        """Return the mean and the variance (H, W, C) of what ancestral sampling ends in.

        They are those of p(x_0) without σ_1², because the last step adds no noise.
        """
        mean, spread = self.marginals()
        return mean[0], spread[0] - self.variance[1]

    def log_likelihood(self, x0: Array) -> Array:
        """Return log p(x_0) of images (N, H, W, C), a log-density in nats per image, (N,)."""
        self._check(x0)
        mean, spread = self.marginals()
        square = (x0 - mean[0]) ** 2 / spread[0]
        return per_image_sum(-0.5 * (np.log(2.0 * np.pi * spread[0]) + square))

    def bound_terms(self, x0: Array) -> Array:
        """Return L_0, L_1, …, L_T of images (N, H, W, C), in nats per image, (T + 1, N).

        Their sum over the first axis bounds −log p(x_0) from above.
        """
        self._check(x0)
        schedule = self.diffusion.schedule
        terms = [per_image_sum(self._reconstruction(x0))]
        terms += [per_image_sum(self._denoising(x0, t)) for t in range(2, schedule.T + 1)]
        signal2, noise2 = schedule.alpha_bar[-1], schedule.one_minus_alpha_bar[-1]
        terms.append(per_image_sum(0.5 * (signal2 * x0**2 - signal2 - np.log(noise2))))
        return np.stack(terms)

    def _reconstruction(self, x0: Array) -> Array:
        """L_0 of each pixel."""
        variance = self.variance[1]
        square = self._square_error(x0, 1) / variance
        nats: Array = 0.5 * (np.log(2.0 * np.pi * variance) + square)
        return nats

    def _denoising(self, x0: Array, t: int) -> Array:
        """L_{t−1} of each pixel."""
        ratio = self.diffusion.schedule.beta_tilde[t] / self.variance[t]
        square = self._square_error(x0, t) / self.variance[t]
        nats: Array = 0.5 * (ratio - 1.0 - np.log(ratio) + square)
        return nats

    def _square_error(self, x0: Array, t: int) -> Array:
        """E d² of each pixel, over q(x_t | x_0)."""
        schedule = self.diffusion.schedule
        one, zero = np.ones_like(x0), np.zeros_like(x0)
        from_x0, _ = self.diffusion.q_posterior(one, zero, t)
        from_xt, _ = self.diffusion.q_posterior(zero, one, t)
        miss = from_xt - self.slope[t]
        mean = (from_x0 + miss * np.sqrt(schedule.alpha_bar[t])) * x0 - self.shift[t]
        square: Array = mean**2 + miss**2 * schedule.one_minus_alpha_bar[t]
        return square

    def _check(self, x0: Array) -> None:
        check_images(x0=x0)
        if x0.shape[1:] != self.slope.shape[1:]:
            raise UsageError(
                f"this chain is of images of shape {self.slope.shape[1:]}",
                cause=f"x0 has {x0.shape[1:]}",
            )


def affine_chain(diffusion: GaussianDiffusion, model: Model, shape: tuple[int, ...]) -> AffineChain:
    """Return the reverse chain of an affine ``model`` for images of ``shape`` (H, W, C).

    a_t, b_t and σ_t² are read off from the unclipped p(x_{t−1} | x_t) at an x_t of zeros and at one
    of ones. A third, uneven x_t checks that the model is affine.

    Raises:
        UsageError: the step is not affine in each pixel by itself, or its variance depends on x_t.
    """
    uneven = np.linspace(-2.0, 3.0, int(np.prod(shape)) + 2)[1:-1].reshape(shape)
    probes = np.stack([np.zeros(shape), np.ones(shape), uneven])
    T = diffusion.schedule.T
    slope, shift, variance = (np.zeros((T + 1, *shape)) for _ in range(3))
    for t in range(1, T + 1):
        output = model(probes, np.full(len(probes), diffusion.timesteps[t]))
        reverse = diffusion.p_mean_variance(output, probes, t, clip=False)
        shift[t], at_one, at_uneven = reverse.mean
        slope[t] = at_one - shift[t]
        affine = np.allclose(at_uneven, slope[t] * uneven + shift[t], rtol=1e-9, atol=1e-9)
        if not affine or np.ptp(reverse.variance, axis=0).any():
            raise UsageError(
                "the exact likelihood needs a model that is affine in each pixel by itself",
                cause=f"at t = {t} it is not, or its variance depends on x_t",
                remedy="GaussianOracle",
            )
        variance[t] = reverse.variance[0]
    return AffineChain(diffusion, slope, shift, variance)
