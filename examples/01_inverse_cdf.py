"""Draw from a Gaussian with nothing but a uniform number: invert the distribution function.

Φ is the share of a standard Gaussian below z. If u is uniform on (0, 1) then

    x = μ + σ Φ⁻¹(u)        has        P(x ≤ a) = P(u ≤ Φ((a − μ)/σ)) = Φ((a − μ)/σ),

which is to say x ~ 𝒩(μ, σ²). Claim: over 100,000 draws the share below any a is off by less than
0.005, and cells of equal probability get equally many draws.
"""

import numpy as np

from tinyddpm.ops.normal import cdf, inverse_cdf

mu, sigma, n = 0.3, 2.0, 100_000
u = np.random.default_rng(0).uniform(size=n)
x = mu + sigma * inverse_cdf(u)

print("     a    P(x <= a)   drawn")
for z in (-3, -2, -1, 0, 1, 2, 3):
    a = mu + sigma * z
    print(f"{a:6.1f}    {cdf(np.float64(z)):.5f}    {(x <= a).mean():.5f}")

# The largest distance between the two distribution functions, over all a.
expected = cdf((np.sort(x) - mu) / sigma)
distance = np.abs(expected - (np.arange(n) + 0.5) / n).max()

edges = mu + sigma * inverse_cdf(np.arange(1, 8) / 8)
shares = np.bincount(np.searchsorted(edges, x), minlength=8) / n

print(f"\nlargest distance over all a  {distance:.5f}")
print("shares of 8 equal cells     ", *(f"{share:.4f}" for share in shares))
print(f"mean {x.mean():.4f} of {mu}, standard deviation {x.std():.4f} of {sigma}")

assert distance < 0.005
assert np.abs(shares - 1 / 8).max() < 0.005
