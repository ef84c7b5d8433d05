"""The U-Net: what goes in and out, what the skips carry, and where the parameters are.

Down to 7 × 7 and up again; every output of the way down is laid beside an input of the way up, so
that fine detail need not pass the bottleneck, and time is added in every residual block.

Claim: the parts add up to the published 1,707,009 parameters of the Hugging Face course's network.
And a network whose last convolution starts at zero says ε = 0, so that its first loss is mean ε².
"""

from collections import Counter

import numpy as np

from tinyddpm import GaussianDiffusion, NoiseSchedule, UNet, UNetConfig
from tinyddpm.arrays import Array

config = UNetConfig.preset("mnist-1.7m")
counts: Counter[str] = Counter()
for name, parameter in UNet(config).parameters.named().items():
    parts = name.split(".")
    counts[".".join(parts[:2]) if parts[0] in {"down", "up"} else parts[0]] += parameter.size

for part, count in counts.items():
    print(f"{part:10s} {count:9,d}  {'█' * round(count / 12_000)}")
print(f"{'all':10s} {counts.total():9,d}\n")

# The same walk as UNet.forward, for a smaller network, to see the shapes.
network = UNet(UNetConfig.preset("mnist"))
diffusion = GaussianDiffusion(NoiseSchedule.cosine(1000))
random = np.random.default_rng(0)
x0 = random.uniform(-1, 1, (4, 28, 28, 1)).astype(np.float32)
eps = random.standard_normal(x0.shape, np.float32)
t = np.array([1, 250, 500, 1000])
xt = diffusion.q_sample(x0, t, eps)

emb, _ = network.embedding.forward(t - 1, None, xt)
h, _ = network.conv_in.forward(xt)
skips: list[Array] = [h]
print(f"x_t {xt.shape}, embedding of t {emb.shape}, conv_in {h.shape}")
for level in network.down:
    h, _ = level.forward(h, emb, None, skips)
    print(f"down {h.shape}, {len(skips)} skips so far")
for stage in network.middle:
    h, _ = stage.forward(h, emb, None)
print(f"middle {h.shape}")
for level in network.up:
    h, _ = level.forward(h, emb, None, skips)
    print(f"up {h.shape}, {len(skips)} skips left")

output, _ = network.forward(xt, t - 1)
loss, _ = diffusion.loss(output, x0, xt, eps, t)
print(f"\noutput {output.shape}; first loss {loss:.6f}, mean ε² {(eps**2).mean():.6f}")

assert counts.total() == 1_707_009
assert not skips
assert output.shape == xt.shape
assert abs(loss - (eps**2).mean()) < 1e-6
