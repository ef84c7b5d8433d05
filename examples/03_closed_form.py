"""The chain of t steps, and the one step that replaces it.

Two independent noises merge into one, √a ε₁ + √b ε₂ ~ 𝒩(0, a + b), so that t steps of the chain
collapse (Ho et al. 2020, eq. 4):

    x_t = √ᾱ_t x_0 + √(1 − ᾱ_t) ε,        ᾱ_t = (1 − β_1)(1 − β_2) ⋯ (1 − β_t)

Claim: carried step by step, the weight of x_0 and the variance of the noise are √ᾱ_t and 1 − ᾱ_t to
twelve digits; and 40,000 pixels walked 300 steps have the moments of those that jumped.
"""

import math

import numpy as np

from tinyddpm import GaussianDiffusion, NoiseSchedule

schedule = NoiseSchedule.linear(1000)
diffusion = GaussianDiffusion(schedule)
random = np.random.default_rng(0)

# On paper: x_t = weight · x_0 + 𝒩(0, noise), and a step multiplies and adds.
weight, noise, worst = 1.0, 0.0, 0.0
for t in range(1, schedule.T + 1):
    weight = math.sqrt(schedule.alpha[t]) * weight
    noise = schedule.alpha[t] * noise + schedule.beta[t]
    worst = max(worst, abs(weight / math.sqrt(schedule.alpha_bar[t]) - 1))
    worst = max(worst, abs(noise / (1 - schedule.alpha_bar[t]) - 1))
print(f"step by step against closed form, worst of all t: {worst:.1e}")

# By drawing: every pixel starts at 0.8 and is noised up to t = 300, in 300 steps or in one.
end = 300
x0 = np.full((1, 200, 200, 1), 0.8)
walked = x0
for t in range(1, end + 1):
    walked = diffusion.q_step(walked, t, random.standard_normal(x0.shape))
jumped = diffusion.q_sample(x0, end, random.standard_normal(x0.shape))

mean, std = 0.8 * math.sqrt(schedule.alpha_bar[end]), math.sqrt(schedule.one_minus_alpha_bar[end])
print("            mean     std")
print(f"formula  {mean:7.4f} {std:7.4f}")
for name, x in (("walked", walked), ("jumped", jumped)):
    print(f"{name}   {x.mean():7.4f} {x.std():7.4f}")
    assert abs(x.mean() - mean) < 0.02
    assert abs(x.std() - std) < 0.02

assert worst < 1e-12
