"""One step of the forward chain, and why the image is scaled by √(1 − β) before noise is added.

    x_t = √(1 − β_t) x_{t−1} + √β_t ε,   ε ~ 𝒩(0, I)                 Ho et al. 2020, eq. 2

Noise of variance β comes in, so (1 − β) of the variance must go out:

    Var x_t = (1 − β_t) Var x_{t−1} + β_t        whose fixed point is 1.

Claim: whatever the pixels were, they end as 𝒩(0, 1); without the factor the variance grows for
ever, here to Var x_0 + Σ β_t = 0.25 + 10.05.
"""

import numpy as np

from tinyddpm import GaussianDiffusion, NoiseSchedule

schedule = NoiseSchedule.linear(1000)
diffusion = GaussianDiffusion(schedule)
random = np.random.default_rng(0)

# 40,000 pixels, half black and half grey: mean −0.5, variance 0.25, and nothing like a Gaussian.
scaled = np.repeat([-1.0, 0.0], 20_000).reshape(1, 200, 200, 1)
unscaled = scaled.copy()
expected = scaled.var()

print("   t   mean   variance   by formula   without the factor")
for t in range(1, schedule.T + 1):
    eps = random.standard_normal(scaled.shape)
    scaled = diffusion.q_step(scaled, t, eps)
    unscaled = unscaled + np.sqrt(schedule.beta[t]) * eps
    expected = (1 - schedule.beta[t]) * expected + schedule.beta[t]
    if t in {1, 10, 100, 200, 400, 1000}:
        print(
            f"{t:4d}  {scaled.mean():5.2f}    {scaled.var():.4f}       {expected:.4f}   "
            f"{unscaled.var():18.4f}"
        )

within = [(np.abs(scaled) < z).mean() for z in (1, 2, 3)]
print(
    "within 1, 2, 3 of 0:", *(f"{share:.4f}" for share in within), "(Gaussian: .6827 .9545 .9973)"
)

assert abs(scaled.mean()) < 0.02
assert abs(scaled.var() - 1) < 0.03
assert np.abs(np.array(within) - [0.6827, 0.9545, 0.9973]).max() < 0.01
assert abs(unscaled.var() - (0.25 + schedule.beta.sum())) < 0.3
