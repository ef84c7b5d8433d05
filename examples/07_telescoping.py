"""The sum telescopes: a ratio of joints is a sum of divergences, along every single path.

By Bayes q(x_t | x_{t−1}) = q(x_{t−1} | x_t, x_0) q(x_t | x_0)/q(x_{t−1} | x_0), and in the product
over t the fractions cancel, all but the last (Ho et al. 2020, appendix A):

    before   −log p(x_T) − Σ_{t≥1} log p(x_{t−1} | x_t)/q(x_t | x_{t−1})
    after    log q(x_T | x_0)/p(x_T) + Σ_{t>1} log q(x_{t−1} | x_t, x_0)/p(x_{t−1} | x_t)
             − log p(x_0 | x_1)

Claim: the two are one number for any path and any model, here a poor one; and its mean over many
paths is L_0 + L_1 + … + L_T.
"""

import numpy as np

from tinyddpm import GaussianDiffusion, NoiseSchedule
from tinyddpm.arrays import Array
from tinyddpm.diffusion.telescoping import forward_path, log_ratio_after, log_ratio_before

diffusion = GaussianDiffusion(NoiseSchedule.cosine(20))


def poor_model(xt: Array, _: Array) -> Array:
    """Takes most of x_t for noise, at every t."""
    return 0.9 * xt


# The same image of 2 × 2 pixels, 20,000 times: every copy walks a path of its own.
pixels = np.array([0, 60, 128, 200]) / 127.5 - 1
x0 = np.broadcast_to(pixels.reshape(1, 2, 2, 1), (20_000, 2, 2, 1))
path = forward_path(diffusion, x0, seed=0)
before = log_ratio_before(diffusion, poor_model, path)
after = log_ratio_after(diffusion, poor_model, path)

print("path       before        after   difference")
for i in range(5):
    print(f"{i:4d} {before[i]:12.6f} {after[i]:12.6f}   {abs(before[i] - after[i]):10.1e}")

bound = diffusion.vlb(poor_model, x0, clip=False, seed=1).nats.sum(axis=1)
error = np.hypot(before.std(), bound.std()) / np.sqrt(len(x0))
print(f"\nmean over paths      {before.mean():9.4f} nats")
print(f"L_0 + L_1 + … + L_T  {bound.mean():9.4f} nats, both ± {error:.4f}")

assert np.abs(before / after - 1).max() < 1e-11
assert abs(before.mean() - bound.mean()) < 5 * error
