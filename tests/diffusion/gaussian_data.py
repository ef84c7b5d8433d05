"""Data that is Gaussian, so that the best prediction and all that is sampled are known exactly."""

from dataclasses import dataclass

import numpy as np

from tinyddpm.diffusion.schedule import NoiseSchedule


@dataclass(frozen=True)
class GaussianData:
    """Independent pixels x_0 ~ 𝒩(mean, variance), and the best model of them, ``model(xt, t)``.

    x_t ~ 𝒩(√ᾱ_t m, D_t), D_t = ᾱ_t s² + 1 − ᾱ_t, and E[ε | x_t] = √(1 − ᾱ_t) (x_t − √ᾱ_t m)/D_t.
    """

    mean: float
    variance: float
    schedule: NoiseSchedule  # the original chain's, for the model is given its t
    predict: str = "eps"

    def __call__(self, xt, t):
        alpha_bar = self.schedule.alpha_bar[t].reshape(-1, *(1,) * (xt.ndim - 1))
        signal, noise = np.sqrt(alpha_bar), np.sqrt(1 - alpha_bar)
        off_centre = (xt - signal * self.mean) / (alpha_bar * self.variance + 1 - alpha_bar)
        eps, x0 = noise * off_centre, self.mean + signal * self.variance * off_centre
        outputs = {"eps": eps, "x0": x0, "v": signal * eps - noise * x0, "score": -off_centre}
        output = outputs[self.predict]
        return output.astype(xt.dtype)

    def sampled_moments(self, schedule, variance):
        """The mean and the variance of what ancestral sampling along ``schedule`` ends in, exactly.

        With ε* affine so is each step (Algorithm 2, in its own form, without μ̃):
        x_{t−1} = (x_t − β_t/√(1 − ᾱ_t) ε*)/√α_t + σ_t z = a x_t + b + σ_t z.
        """
        mean, spread = 0.0, 1.0
        for t in range(schedule.T, 0, -1):
            beta, alpha_bar = schedule.beta[t], schedule.alpha_bar[t]
            d = alpha_bar * self.variance + 1 - alpha_bar
            a = (1 - beta / d) / np.sqrt(1 - beta)
            b = beta * np.sqrt(alpha_bar) * self.mean / (d * np.sqrt(1 - beta))
            sigma2 = beta
            if variance == "beta_tilde":
                sigma2 = beta * (1 - schedule.alpha_bar[t - 1]) / (1 - alpha_bar)
            mean = a * mean + b
            spread = a * a * spread + (sigma2 if t > 1 else 0.0)
        return mean, spread
