"""Algorithm 1, spelled out: train a small U-Net on the built-in digits.

    repeat   x_0 from the data,   t ~ U{1 … T},   ε ~ 𝒩(0, I)                Ho et al. 2020
             one step down the gradient of ‖ε − ε_θ(√ᾱ_t x_0 + √(1 − ᾱ_t) ε, t)‖²

``tinyddpm train`` does this with workers and checkpoints, and for longer. Claim: in 60 steps of 32
images the loss falls from 1, where the network predicts nothing, to less than a third of that.
"""

import numpy as np

from tinyddpm import GaussianDiffusion, NoiseSchedule, UNet, UNetConfig, optim, rng
from tinyddpm.blas import one_blas_thread
from tinyddpm.data.glyphs import glyphs
from tinyddpm.data.pixels import from_bytes
from tinyddpm.kernels.cpu import cpu

seed, batch, steps = 0, 32, 60
images = from_bytes(glyphs(1000).images)
diffusion = GaussianDiffusion(NoiseSchedule.cosine(1000))
network = UNet(UNetConfig(image_size=16, channels=(8, 16), groups=4), seed, kernels=cpu)
value, grad = network.parameters.value, network.parameters.grad
average, m, v = value.copy(), np.zeros_like(value), np.zeros_like(value)
print(f"{len(value):,} parameters")


def train_step(step: int) -> float:
    """One round of Algorithm 1; returns the loss."""
    samples = np.arange(batch)
    chosen = rng.integers(seed, "order", step=step, samples=samples, high=len(images)) - 1
    t = rng.integers(seed, "t", step=step, samples=samples, high=diffusion.schedule.T)
    eps = rng.normal(seed, "noise", step=step, samples=samples, shape=images.shape[1:])
    x0 = images[chosen]
    xt = diffusion.q_sample(x0, t, eps)

    output, saved = network.forward(xt, t - 1)  # networks count time from 0
    loss, doutput = diffusion.loss(output, x0, xt, eps, t)
    grad[...] = 0
    network.backward(doutput, saved)

    optim.clip_by_norm(grad, optim.global_norm(grad), 1.0)
    optim.adam(value, grad, m, v, step=step, lr=4e-3)
    optim.ema(average, value, optim.ema_decay(step, 0.999))  # what one would sample with
    return float(loss)


losses: list[float] = []
with one_blas_thread():  # on matrices this small its threads would only wait for each other
    for step in range(1, steps + 1):
        losses.append(train_step(step))
        if step == 1 or step % 10 == 0:
            recent = np.mean(losses[-10:])
            print(f"step {step:3d}   loss {recent:.4f}  {'█' * round(50 * recent)}")

assert abs(losses[0] - 1) < 0.1
assert np.mean(losses[-10:]) < 1 / 3
