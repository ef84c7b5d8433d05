"""A divergence of Gaussians becomes a squared error of noises, with a weight.

If the variances are equal, only the distance of the means is left, and both means are made of x_t
and a noise (Ho et al. 2020, eq. 12):

    KL(𝒩(μ̃_t, σ_t²) ‖ 𝒩(μ_θ, σ_t²)) = ‖μ̃_t − μ_θ‖²/2σ_t² = w_t ‖ε − ε_θ‖²
    w_t = β_t²/(2 σ_t² α_t (1 − ᾱ_t))

Claim: equality to nine digits. By t = 500 the weight has fallen fiftyfold, and then rises a little;
L_simple, which leaves it out, therefore looks harder at the noisy images than the bound does.
"""

import numpy as np

from tinyddpm import GaussianDiffusion, NoiseSchedule
from tinyddpm.diffusion.bound import eps_weights
from tinyddpm.diffusion.kl import normal_kl

schedule = NoiseSchedule.linear(1000)
diffusion = GaussianDiffusion(schedule)
random = np.random.default_rng(0)
x0 = random.uniform(-1, 1, (1, 8, 8, 1))
eps = random.standard_normal(x0.shape)
eps_theta = eps + 0.3 * random.standard_normal(x0.shape)  # what some network says

weights = {
    "beta": eps_weights(schedule, schedule.beta),
    "beta_tilde": eps_weights(schedule, np.maximum(schedule.beta_tilde, schedule.beta_tilde[2])),
}

print("   t   w_t for σ² = β   for σ² = β̃   KL of the means   w_t ‖ε − ε_θ‖²")
for t in (2, 10, 100, 500, 1000):
    xt = diffusion.q_sample(x0, t, eps)
    mu_tilde, _ = diffusion.q_posterior(x0, xt, t)
    mu_theta, _ = diffusion.q_posterior(diffusion.predict_x0(xt, t, eps_theta), xt, t)
    log_variance = np.log(schedule.beta[t])
    kl = normal_kl(mu_tilde, log_variance, mu_theta, log_variance).sum()
    squared = weights["beta"][t] * ((eps - eps_theta) ** 2).sum()
    print(
        f"{t:4d} {weights['beta'][t]:16.6f} {weights['beta_tilde'][t]:12.6f}"
        f" {kl:17.10f} {squared:16.10f}"
    )
    assert abs(kl / squared - 1) < 1e-9

assert abs(weights["beta"][2] - 0.273) < 5e-4
assert abs(weights["beta_tilde"][2] - 0.600) < 5e-4
assert abs(weights["beta"][500] - 0.0055) < 5e-5
assert abs(weights["beta"][1000] - 0.0102) < 5e-5
