"""A 3×3 convolution is nine matrix products over the channels, and has a faster twin.

    y[n, i, j] = bias + Σ_{a, b} x_padded[n, i + a, j + b] weight[a, b]

Each of the nine taps (a, b) shifts the image and multiplies its channels by a matrix. The twin
cuts the image into 4 × 4 tiles and takes 36 products where these took 144 (Winograd's F(4×4, 3×3)).
Claim: the sum of nine is the op, to the bit, and the twin is the op to 1e-4 in float32. The times
depend on the machine, and are shown, not claimed.
"""

import time
from collections.abc import Callable

import numpy as np

from tinyddpm.arrays import Array
from tinyddpm.blas import one_blas_thread
from tinyddpm.kernels.cpu import cpu
from tinyddpm.ops.conv2d import conv2d

random = np.random.default_rng(0)
x = random.standard_normal((8, 32, 32, 64), np.float32)
weight = random.standard_normal((3, 3, 64, 64), np.float32) / np.float32(24)  # √(9 · 64) = 24
bias = random.standard_normal(64, np.float32)


def nine_products(x: Array) -> Array:
    """The formula above, as it stands."""
    height, width = x.shape[1:3]
    x_padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    y = np.zeros((*x.shape[:3], weight.shape[3]), x.dtype)
    for a in range(3):
        for b in range(3):
            y += x_padded[:, a : a + height, b : b + width] @ weight[a, b]
    return y + bias


def milliseconds(call: Callable[[], object]) -> float:
    """The best of five."""
    times = []
    for _ in range(5):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return 1000 * min(times)


prepared = cpu.prepare_conv2d(weight)  # transformed once, as a network does once per step
y = nine_products(x)
op, _ = conv2d(x, weight, bias)
twin, _ = cpu.conv2d(x, prepared, bias)
error = np.abs(twin - op).max() / np.abs(op).max()

print(f"nine products against the op  {np.abs(y - op).max():.1e}")
print(f"the twin against the op       {error:.1e} of the largest value")
with one_blas_thread():
    print(f"the op    {milliseconds(lambda: conv2d(x, weight, bias)):7.1f} ms")
    print(f"the twin  {milliseconds(lambda: cpu.conv2d(x, prepared, bias)):7.1f} ms")

assert np.array_equal(y, op)
assert error < 1e-4
