"""Learn the variance: the bound teaches it, and leaves the mean alone.

    log σ_t² = f log β_t + (1 − f) log β̃_t,   f = (v + 1)/2      Nichol & Dhariwal 2021, eq. 15
    L_hybrid = L_simple + 0.001 L_vlb, the bound's gradient stopped at ε          eq. 16

For x_0 ~ 𝒩(0, s²) the best ε is known, and so is the best variance, that of x_{t−1} given x_t
alone: β̃_t + c_t² Var(x_0 | x_t), with c_t the weight of x_0 in μ̃_t.

Claim: the hybrid's gradient in ε's channels is that of L_simple to the bit; and a table of one v
for each t, taught by the bound, ends at the best variance, between β̃ and β.
"""

import numpy as np

from tinyddpm import GaussianDiffusion, NoiseSchedule, optim
from tinyddpm.diffusion.oracles import GaussianOracle

T, s2, n, shape = 10, 0.25, 900, (1, 1, 1)
schedule = NoiseSchedule.cosine(T)
learned = GaussianDiffusion(schedule, variance="learned")
simple = GaussianDiffusion(schedule)
oracle = GaussianOracle(schedule, 0.0, s2)
random = np.random.default_rng(0)

v, moment1, moment2 = np.zeros((3, T + 1))
for step in range(1, 401):
    x0 = np.sqrt(s2) * random.standard_normal((n, *shape))
    eps, t = random.standard_normal(x0.shape), 2 + np.arange(n) % (T - 1)  # t = 1 is the decoder's
    xt = learned.q_sample(x0, t, eps)
    said = oracle(xt, t)
    output = np.concatenate([said, v[t].reshape(said.shape)], axis=-1)
    _, doutput = learned.loss(output, x0, xt, eps, t, objective="hybrid")
    _, dsimple = simple.loss(said, x0, xt, eps, t)
    assert np.array_equal(doutput[..., :1], dsimple)
    dv = np.bincount(t, doutput[..., 1:].ravel(), minlength=T + 1)
    optim.adam(v, dv, moment1, moment2, step=step, lr=0.1 * (1 - step / 401))

a, noise = schedule.alpha_bar, schedule.one_minus_alpha_bar
left = s2 * noise / (a * s2 + noise)  # Var(x_0 | x_t)
best = schedule.beta_tilde + learned.posterior_from_x0**2 * left
lower, upper = learned.log_variance_ends
taught = np.exp(0.5 * (1 + v) * upper + 0.5 * (1 - v) * lower)

print("  t        β̃_t       best     taught        β_t        v")
for t in range(2, T + 1):
    print(
        f"{t:3d} {schedule.beta_tilde[t]:10.6f} {best[t]:10.6f} {taught[t]:10.6f}"
        f" {schedule.beta[t]:10.6f} {v[t]:8.3f}"
    )
worst = np.abs(taught[2:] / best[2:] - 1).max()
print(f"worst of all t: {100 * worst:.1f}% off; L_simple's gradient the same to the bit throughout")
assert worst < 0.05
