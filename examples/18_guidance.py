"""Classifier-free guidance: lean away from what all classes share.

    ε̃ = (1 + w) ε(x_t, c) − w ε(x_t, ∅)                          Ho & Salimans 2022, eq. 6

One model knows the classes and their mixture. Here there are two, 𝒩(−0.3, 0.2²) and 𝒩(0.3, 0.2²),
which overlap, and each ε is known. Claim: w = 0 samples the class as it is and w = −1 the mixture;
the larger w, the fewer samples lie on the other class's side, and the narrower they are.
"""

import numpy as np

from tinyddpm import GaussianDiffusion, NoiseSchedule
from tinyddpm.arrays import Array, IntArray
from tinyddpm.diffusion.guidance import guided_model
from tinyddpm.diffusion.oracles import GaussianOracle, MixtureOracle

schedule = NoiseSchedule.cosine(200)
diffusion = GaussianDiffusion(schedule, variance="beta_tilde")
means, variance, null = (-0.3, 0.3), 0.04, 2
both = np.array(means).reshape(2, 1, 1, 1)
oracles = [
    *(GaussianOracle(schedule, mean, variance) for mean in means),
    MixtureOracle(schedule, [0.5, 0.5], both, [variance, variance]),  # ∅, the third label
]


def model(xt: Array, t: IntArray, labels: IntArray) -> Array:
    """Each image is predicted by the oracle of its label."""
    eps = np.empty_like(xt)
    for label in np.unique(labels):
        mine = labels == label
        eps[mine] = oracles[label](xt[mine], t[mine])
    return eps


n = 4000
labels = np.ones(n, np.int64)
print("    w     mean   variance   on the other side")
found = {}
for w in (-1.0, 0.0, 1.0, 3.0):
    guided = guided_model(model, labels, null_label=null, weight=w)
    x = diffusion.sample(guided, (n, 1, 1, 1), clip=False, dtype=np.float64)
    found[w] = float(x.mean()), float(x.var()), float((x < 0).mean())
    mean, spread, other = found[w]
    print(f"{w:5.0f} {mean:8.3f} {spread:10.4f}   {other:8.4f}  {'█' * round(40 * other)}")

assert abs(found[0][0] - 0.3) < 0.02
assert abs(found[0][1] - variance) < 0.005
assert abs(found[-1][0]) < 0.03
assert abs(found[-1][1] - (variance + 0.3**2)) < 0.01
assert found[0][2] > found[1][2] > found[3][2]
assert found[0][1] > found[1][1] > found[3][1]
