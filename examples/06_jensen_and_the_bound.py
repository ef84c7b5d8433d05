"""From log E to E log: the bound on the likelihood, and exactly how much it gives away.

The logarithm is concave: log E[X] ≥ E[log X] (Jensen). With X = p(x_0 … x_T)/q(x_1 … x_T | x_0)

    −log p(x_0) = −log E_q X ≤ E_q[−log X] = L_0 + L_1 + … + L_T          Ho et al. 2020, eq. 5

and the gap is KL(q(x_1 … x_T | x_0) ‖ p(x_1 … x_T | x_0)). Where x_0 is Gaussian the best model is
known and everything is Gaussian, so all three can be computed. Claim: the likelihood, the bound and
the KL of two T-dimensional Gaussians, each computed in its own way, fit together to ten digits.
"""

import numpy as np

from tinyddpm import GaussianDiffusion, NoiseSchedule
from tinyddpm.arrays import Array
from tinyddpm.diffusion.affine_chain import affine_chain
from tinyddpm.diffusion.oracles import GaussianOracle

x = np.array([0.1, 0.5, 4.0])
print(f"log of the mean {np.log(x.mean()):.4f}  >=  mean of the logs {np.log(x).mean():.4f}\n")

T = 10
schedule = NoiseSchedule.cosine(T)
diffusion = GaussianDiffusion(schedule)
chain = affine_chain(diffusion, GaussianOracle(schedule, mean=0.2, variance=0.3), (1, 1, 1))


def moments_of_q(x0: float) -> tuple[Array, Array]:
    """Mean and covariance of x_1 … x_T given x_0: Cov(x_s, x_t) = √(ᾱ_t/ᾱ_s) (1 − ᾱ_s), s ≤ t."""
    a = schedule.alpha_bar[1:]
    earlier, later = np.maximum.outer(a, a), np.minimum.outer(a, a)
    return np.sqrt(a) * x0, np.sqrt(later / earlier) * (1 - earlier)


def moments_of_p(x0: float) -> tuple[Array, Array]:
    """The same under the model: (I − A) x = shift + noise for x_0 … x_T, then condition on x_0."""
    a, b, variance = (table.ravel() for table in (chain.slope, chain.shift, chain.variance))
    spread = np.linalg.inv(np.eye(T + 1) - np.diag(a[1:], 1))
    mean = spread @ np.append(b[1:], 0.0)
    covariance = spread @ np.diag(np.append(variance[1:], 1.0)) @ spread.T
    gain = covariance[1:, 0] / covariance[0, 0]
    return mean[1:] + gain * (x0 - mean[0]), covariance[1:, 1:] - np.outer(gain, covariance[0, 1:])


print("   x_0    −log p     bound       gap        KL")
for x0 in (-1.0, -0.3, 0.2, 1.0):
    image = np.full((1, 1, 1, 1), x0)
    nll, bound = -chain.log_likelihood(image)[0], chain.bound_terms(image).sum()
    (m_q, s_q), (m_p, s_p) = moments_of_q(x0), moments_of_p(x0)
    log_ratio = np.linalg.slogdet(s_p)[1] - np.linalg.slogdet(s_q)[1]
    miss = m_p - m_q
    square = np.trace(np.linalg.solve(s_p, s_q)) + miss @ np.linalg.solve(s_p, miss)
    kl = 0.5 * (square - T + log_ratio)
    print(f"{x0:6.1f} {nll:9.5f} {bound:9.5f} {bound - nll:9.5f} {kl:9.5f}")
    assert bound > nll
    assert abs(bound - nll - kl) < 1e-10
