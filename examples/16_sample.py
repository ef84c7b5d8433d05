"""Algorithm 2, spelled out: from noise to digits, one thousand small steps.

    x_T ~ 𝒩(0, I);   for t = T … 1:                                          Ho et al. 2020
    x_{t−1} = (x_t − β_t/√(1 − ᾱ_t) ε_θ(x_t, t))/√α_t + σ_t z,   z ~ 𝒩(0, I), and z = 0 at t = 1

There is no network here. For a finite set of images the best ε_θ is known; a network that learns
its images by heart tends to it. Claim: every image it samples is one of the set, byte for byte, and
the loop below does the same as ``GaussianDiffusion.sample``. The images are saved as a PNG.
"""

import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from tinyddpm import GaussianDiffusion, NoiseSchedule, rng
from tinyddpm.arrays import Array
from tinyddpm.data.glyphs import glyphs
from tinyddpm.data.pixels import from_bytes, to_bytes
from tinyddpm.diffusion.oracles import FiniteDataOracle
from tinyddpm.figures.grid import grid, save_png

schedule = NoiseSchedule.cosine(1000)
digits = glyphs(100).images
oracle = FiniteDataOracle(schedule, from_bytes(digits))
samples = np.arange(12)


def noise(step: int) -> Array:
    """The z of a step, and x_T for step 0."""
    z = rng.normal(0, "sample", step=step, samples=samples, shape=(16, 16, 1), dtype=np.float64)
    return z


x = noise(0)
for t in range(schedule.T, 0, -1):
    eps = oracle(x, np.full(len(samples), t))
    beta, alpha = schedule.beta[t], schedule.alpha[t]
    mean = (x - beta / np.sqrt(schedule.one_minus_alpha_bar[t]) * eps) / np.sqrt(alpha)
    x = mean + np.sqrt(beta) * noise(t) if t > 1 else mean

library = GaussianDiffusion(schedule).sample(oracle, x.shape, clip=False, dtype=np.float64)
drawn = to_bytes(x)
nearest = [int(np.abs(digits.astype(int) - image).sum(axis=(1, 2, 3)).argmin()) for image in drawn]

for row in drawn[:4, ::2, :, 0].swapaxes(0, 1):  # every other row: letters are tall
    print("  ".join("".join(" .:-=+*#%@"[level // 26] for level in line) for line in row))
print("\ndigits drawn:", *(i % 10 for i in nearest))
print(f"against GaussianDiffusion.sample {np.abs(x - library).max():.1e}")

with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / "digits.png"
    save_png(grid(drawn, columns=6, zoom=4), path)
    with Image.open(path) as picture:
        print(
            f"{path.name}: {picture.width} × {picture.height} pixels, {path.stat().st_size} bytes"
        )

assert np.array_equal(drawn, digits[nearest])
assert np.abs(x - library).max() < 1e-6
