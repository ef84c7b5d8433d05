"""The last step gives a byte: the probability of a bin, and what two shortcuts cost.

A pixel is x = k/127.5 − 1 for a byte k, and p(x_0 | x_1) is the mass of a Gaussian over its bin
(Ho et al. 2020, eq. 13), whose first and last bins reach to infinity:

    P(x) = Φ((x + 1/255 − μ)/σ) − Φ((x − 1/255 − μ)/σ)

Claim: the 256 probabilities sum to 1 at any μ and σ. Those of the rectangle, density × bin width,
do not; and the tanh approximation of Φ, floored at 1e-12 as in the published code, is dead a few
grey levels from the mean, where the exact form still has a gradient.
"""

import numpy as np

from tinyddpm.diffusion.decoder import (
    LEVELS,
    log_bins,
    log_probability,
    log_probability_backward,
    tanh_log_probability,
    worked_example,
)

example = worked_example(level=128, mean=0.0, std=0.01)
print(f"one pixel: byte 128 is x = {example.x0:.6f}; μ = 0, σ = 0.01")
print(f"  from a = {example.a:.4f} to b = {example.b:.4f} standard deviations")
print(f"  Φ(b) − Φ(a) = {example.cdf_b:.6f} − {example.cdf_a:.6f} = {example.probability:.6f}")
print(f"  rectangle {example.rectangle:.6f}, and {example.bits:.4f} bits\n")

print("sum over 256 bins     exact      tanh  rectangle")
for mean, std in ((0.0, 0.01), (0.0, 0.0025), (0.99, 0.05), (-1.5, 0.2)):
    arguments = np.array(mean), np.array(2 * np.log(std))
    sums = [np.exp(log_bins(*arguments, kind)).sum() for kind in ("exact", "tanh", "rectangle")]
    print(f"  μ = {mean:5.2f}, σ = {std:.4f} {sums[0]:8.6f} {sums[1]:9.6f} {sums[2]:10.6f}")
    assert abs(sums[0] - 1) < 1e-12
assert sums[2] < 0.1  # almost all of it lies below black, in the first bin

print("\ngrey levels off   log P exact      tanh   d log P/dμ exact     tanh")
log_variance = np.full(1, 2 * np.log(0.0074), np.float32)
for off in (1, 3, 6, 10, 40):
    x0, mean = LEVELS[[128]].astype(np.float32), LEVELS[[128 - off]].astype(np.float32)
    exact, saved = log_probability(x0, mean, log_variance)
    dmean, _ = log_probability_backward(np.ones_like(exact), saved)
    h = np.float32(1e-3)
    tanh = [tanh_log_probability(x0, mean + step, log_variance)[0] for step in (-h, 0 * h, h)]
    slope = (tanh[2] - tanh[0]) / (2 * h)
    print(f"{off:15d} {exact[0]:13.3f} {tanh[1]:9.3f} {dmean[0]:18.1f} {slope:8.1f}")
    assert dmean[0] > 100
    assert (slope == 0) == (off >= 6)
