"""How the network is told the time, and what attention sees.

    e(t) = [cos(t ω) | sin(t ω)],   ω from 1 down to almost 1/10000      one vector for each t
    y = softmax(q kᵀ/√D) v                                  Vaswani et al. 2017, arXiv 1706.03762

Claim: e(t)·e(t + k) depends on k alone, and is greatest at k = 0: near times look alike, at any t.
Attention does not know where a pixel lies: permute the pixels, and its result is permuted likewise.
In the U-Net it stands between convolutions, which know every pixel's neighbours.
"""

import numpy as np

from tinyddpm.ops.attention import attention
from tinyddpm.ops.time_embedding import time_embedding

times = np.array([1.0, 250.0, 500.0])
lags = (0, 1, 3, 10, 30, 100, 300)
e, _ = time_embedding(times, dim=64)

print("   k   e(t)·e(t + k) at t =", *(f"{t:.0f}" for t in times))
products = []
for k in lags:
    later, _ = time_embedding(times + k, dim=64)
    products.append((e * later).sum(axis=1))
    numbers = "  ".join(f"{product:9.6f}" for product in products[-1])
    print(f"{k:4d}   {numbers}   {'█' * round(products[-1][0])}")

random = np.random.default_rng(0)
qkv = random.standard_normal((1, 49, 3 * 16))  # the 7 × 7 pixels of one image, 16 channels
order = random.permutation(49)
y, saved = attention(qkv, heads=1)
y_permuted, _ = attention(qkv[:, order], heads=1)
shares = saved.p.p[0, 0]  # (49, 49): how much each pixel takes from each
print(f"\npixels permuted before or after attention: {np.abs(y_permuted - y[:, order]).max():.1e}")
print(
    f"the first pixel takes {100 * shares[0].max():.0f}% from one, and {shares[0].sum():.6f} in all"
)

assert np.ptp(products, axis=1).max() < 1e-10
assert np.all(np.diff(products[:5], axis=0) < 0)  # falling to k = 30
assert np.all(np.array(products[1:]) < products[0])
assert np.abs(y_permuted - y[:, order]).max() < 1e-12
assert np.abs(shares.sum(axis=1) - 1).max() < 1e-12
