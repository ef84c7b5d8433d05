"""The same network in fewer steps: a respaced chain, and DDIM.

Keep K of the T times, and make β from the ᾱ that remain (Nichol & Dhariwal 2021, eq. 19); or walk
without noise (DDIM, Song et al. 2021, eq. 12 with η = 0). Take x_0 ~ 𝒩(0, 0.01), as narrow as a
pixel is when its neighbours are known. The best network is known then, and every step is affine, so
the variance of what comes out can be computed.

Claim: each way tends to 0.01 as steps are added. Until then σ² = β spreads the samples too much and
σ² = β̃ too little; in 10 steps DDIM is nearest, and σ² = β four times too large.
"""

import numpy as np

from tinyddpm import GaussianDiffusion, NoiseSchedule
from tinyddpm.diffusion.affine_chain import affine_chain
from tinyddpm.diffusion.gaussian import Variance
from tinyddpm.diffusion.oracles import GaussianOracle

truth, shape = 0.01, (1, 1, 1)
schedule = NoiseSchedule.cosine(1000)
oracle = GaussianOracle(schedule, mean=0.0, variance=truth)


def ancestral(variance: Variance, steps: int) -> float:
    """The variance of x_0 when sampled in ``steps`` steps."""
    chain = GaussianDiffusion(schedule, variance=variance).respace(steps)
    return float(affine_chain(chain, oracle, shape).sampled_moments()[1].item())


def ddim(steps: int) -> float:
    """The same without noise: x_0 is proportional to x_T ~ 𝒩(0, 1), so one image will do."""
    chain = GaussianDiffusion(schedule).respace(steps)
    one = np.ones((1, *shape))
    *_, last = chain.ddim_steps_from(oracle, one, clip=False)
    return float(last.x.item()) ** 2


print("steps      σ² = β     σ² = β̃       DDIM    (truth 0.01)")
table = {}
for steps in (5, 10, 50, 250, 1000):
    table[steps] = ancestral("beta", steps), ancestral("beta_tilde", steps), ddim(steps)
    print(f"{steps:5d}", *(f"{variance:11.6f}" for variance in table[steps]))
    assert table[steps][0] > truth > table[steps][1]

short = GaussianDiffusion(schedule).respace(10)
print("\nthe 10 steps are", *short.timesteps[1:])

off = {steps: np.abs(np.array(row) - truth) for steps, row in table.items()}
assert all(off[1000] < 0.05 * truth)
assert all(off[250] < off[10])
assert off[10][2] < min(off[10][:2])
assert 3.5 < table[10][0] / truth < 4.5
assert np.allclose(short.schedule.alpha_bar, schedule.alpha_bar[short.timesteps], rtol=1e-12)
