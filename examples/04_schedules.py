"""How fast the image goes: the linear and the cosine schedule side by side.

    linear   β_t from 1e-4 to 0.02 in even steps                             Ho et al. 2020
    cosine   ᾱ_t = f(t)/f(0), f(t) = cos²((t/T + s)/(1 + s) · π/2)           Nichol & Dhariwal 2021

ᾱ_t is the share of x_t's variance that is still image. The linear schedule spends its last third on
noise alone. Claim: of 1000 steps, half of the image is gone at t = 260 (linear) and 497 (cosine),
and 99% of it at 674 and 936.
"""

import numpy as np

from tinyddpm import NoiseSchedule

linear, cosine = NoiseSchedule.linear(1000), NoiseSchedule.cosine(1000)

print("   t      β linear   β cosine    ᾱ linear   ᾱ cosine")
for t in (1, 2, 250, 500, 750, 999, 1000):
    print(
        f"{t:4d}    {linear.beta[t]:10.6f} {cosine.beta[t]:10.6f}  "
        f"{linear.alpha_bar[t]:10.2e} {cosine.alpha_bar[t]:10.2e}"
    )

print("\n   t   ᾱ linear                   ᾱ cosine")
for t in range(0, 1001, 50):
    bars = ("█" * round(24 * s.alpha_bar[t]) for s in (linear, cosine))
    print(f"{t:4d}   {next(bars):24s}   {next(bars)}")


def first_below(schedule: NoiseSchedule, level: float) -> int:
    """The first t at which ᾱ_t is less than ``level``."""
    return int(np.argmax(schedule.alpha_bar < level))


halved = first_below(linear, 0.5), first_below(cosine, 0.5)
gone = first_below(linear, 0.01), first_below(cosine, 0.01)
print(f"\nhalf of it gone at t = {halved[0]} and {halved[1]}, 99% at t = {gone[0]} and {gone[1]}")

assert halved == (260, 497)
assert gone == (674, 936)
