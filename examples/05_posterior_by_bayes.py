"""The step back is known where x_0 is known: multiply two Gaussians and complete the square.

    q(x_{t−1} | x_t, x_0) ∝ q(x_t | x_{t−1}) q(x_{t−1} | x_0)                           Bayes
                          = 𝒩(μ̃_t, β̃_t)                              Ho et al. 2020, eq. 6 and 7

Here no square is completed. The product is taken point by point, on a fine grid of x_{t−1}, and
divided by its sum. Claim: its mean and its variance are μ̃_t and β̃_t to nine digits.
"""

import numpy as np

from tinyddpm import GaussianDiffusion, NoiseSchedule
from tinyddpm.arrays import Array

schedule = NoiseSchedule.cosine(1000)
diffusion = GaussianDiffusion(schedule)


def log_gaussian(x: Array, mean: Array, variance: float) -> Array:
    """log 𝒩(x; mean, variance), up to a constant."""
    return -((x - mean) ** 2) / (2 * variance)


def by_bayes(x0: float, xt: float, t: int) -> tuple[float, float]:
    """Mean and variance of x_{t−1} given x_0 and x_t, from likelihood times prior."""
    x = np.linspace(-6, 6, 20_001)  # all the x_{t−1} there may be
    likelihood = log_gaussian(xt, np.sqrt(schedule.alpha[t]) * x, schedule.beta[t])
    prior_mean = np.sqrt(schedule.alpha_bar[t - 1]) * x0
    prior = log_gaussian(x, prior_mean, schedule.one_minus_alpha_bar[t - 1])
    p = np.exp(likelihood + prior - (likelihood + prior).max())
    p /= p.sum()
    mean = (p * x).sum()
    return mean, (p * (x - mean) ** 2).sum()


print("   t      μ̃ by Bayes    by formula     β̃ by Bayes    by formula        β_t")
x0, xt = 0.6, 0.1
for t in (2, 3, 10, 100, 500, 900):
    mean, variance = by_bayes(x0, xt, t)
    image = np.full((1, 1, 1, 1), 1.0)
    mu, beta_tilde = (float(a.item()) for a in diffusion.q_posterior(x0 * image, xt * image, t))
    print(
        f"{t:4d}   {mean:12.9f}  {mu:12.9f}   {variance:.6e}  {beta_tilde:.6e}"
        f"   {schedule.beta[t]:.2e}"
    )
    assert abs(mean - mu) < 1e-9
    assert abs(variance / beta_tilde - 1) < 1e-9
    assert beta_tilde < schedule.beta[t]  # knowing x_0 can only help
