"""Group normalisation backwards: three ways lead from x to the loss, and each has its term.

    x_hat = (x − m) r,   m = mean x,   r = (mean (x − m)² + norm_eps)^(−1/2)

    directly         r dx_hat
    through m        −r mean(dx_hat)                     the same for every element
    through r        −r x_hat mean(dx_hat x_hat)         along x_hat

(Wu & He 2018, arXiv 1803.08494; means over the pixels and channels of one group of one image.)
Claim: their sum, computed group by group, is what ``group_norm_backward`` gives. It follows that a
gradient has no part along a constant or x itself: to shift or scale a group changes nothing.
"""

import numpy as np

from tinyddpm.ops.group_norm import group_norm, group_norm_backward

random = np.random.default_rng(0)
groups, norm_eps = 3, 1e-12
x, dy = random.standard_normal((2, 2, 5, 4, 6))  # two arrays of (N, H, W, C) = (2, 5, 4, 6)
weight, bias = random.standard_normal((2, 6))

dx = np.empty_like(x)
print("image group    directly   through m   through r    sum of dx   sum of dx x")
for n in range(2):
    for g in range(groups):
        here = n, slice(None), slice(None), slice(2 * g, 2 * g + 2)  # two channels make a group
        centred = x[here] - x[here].mean()
        r = ((centred**2).mean() + norm_eps) ** -0.5
        x_hat, dx_hat = centred * r, (weight * dy)[here]
        directly = r * dx_hat
        through_m = -r * dx_hat.mean()
        through_r = -r * x_hat * (dx_hat * x_hat).mean()
        dx[here] = directly + through_m + through_r
        rms = [np.sqrt((term**2).mean()) for term in (directly, through_m, through_r)]
        sums = abs(dx[here].sum()), abs((dx[here] * x[here]).sum())
        print(
            f"{n:5d} {g:5d}    {rms[0]:8.4f} {rms[1]:11.4f} {rms[2]:11.4f}"
            f" {sums[0]:14.1e} {sums[1]:13.1e}"
        )
        assert max(sums) < 1e-9

y, saved = group_norm(x, weight, bias, groups=groups, norm_eps=norm_eps)
op_dx, _, _ = group_norm_backward(dy, saved)
moved, _ = group_norm(7 * x + 3, weight, bias, groups=groups, norm_eps=norm_eps)
print(f"\nagainst group_norm_backward {np.abs(dx - op_dx).max():.1e}")
print(f"group_norm(7 x + 3) against group_norm(x) {np.abs(moved - y).max():.1e}")

assert np.abs(dx - op_dx).max() < 1e-12
assert np.abs(moved - y).max() < 1e-9
