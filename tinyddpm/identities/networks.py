"""Identities of the network: where it starts, what it drops, what is averaged, what it sees of t.

LeCun et al. 1998 ("Efficient BackProp") for 1/fan-in; Srivastava et al. 2014 for dropout; Vaswani
et al. 2017 (arXiv 1706.03762) for the embedding of t.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from tinyddpm import optim
from tinyddpm.arrays import Array
from tinyddpm.identities.registry import Setting, identity
from tinyddpm.identities.statistics import (
    Comparison,
    exactly,
    frequency_test,
    ks_test,
    relative_error,
    subgamma_test,
)
from tinyddpm.nn.config import UNetConfig
from tinyddpm.nn.masks import DropoutMasks
from tinyddpm.nn.parameters import Parameters
from tinyddpm.nn.unet import UNet
from tinyddpm.ops.dropout import dropout
from tinyddpm.ops.group_norm import group_norm
from tinyddpm.ops.time_embedding import time_embedding


@identity(
    "xxii",
    "the average weighs the past",
    "EMA_k = d^k θ_0 + (1 − d) Σ_{i=1}^k d^{k−i} θ_i;   warmed up d_i = min(d, (1 + i)/(10 + i))",
    optim.ema,
    optim.ema_decay,
)
def average_is_a_weighted_sum(setting: Setting) -> Iterator[Comparison]:
    """The error of the average after 100 updates, with constant decays and warmed up."""
    weights = np.resize(setting.normal(0), (101, 20))
    for limit in setting.numbers(2, 0.9, 0.999):
        constant = np.full(100, limit)
        warmed = np.array([min(limit, (1 + k) / (10 + k)) for k in range(1, 101)])
        used = np.array([optim.ema_decay(k, float(limit)) for k in range(1, 101)])
        for expected, decays in ((constant, constant), (warmed, used)):
            average = weights[0].copy()
            for decay, value in zip(decays, weights[1:], strict=True):
                optim.ema(average, value, float(decay))
            # What each value is multiplied by after it came in: the product of the later decays.
            later = np.append(np.cumprod(expected[::-1])[::-1], 1.0)
            coefficients = later * np.append(1.0, 1 - expected)
            yield exactly(relative_error(average, coefficients @ weights), 1e-10)


@identity(
    "xxiii",
    "dropout keeps the mean",
    "y = x keep/(1 − r),  keep ~ Bernoulli(1 − r):  E y = x,  Var y = x² r/(1 − r), and the masks "
    "of two layers are independent",
    DropoutMasks.keep,
    dropout,
)
def dropout_keeps_the_mean(setting: Setting) -> Iterator[Comparison]:
    """Null: the pixels of a mask are independent of each other and of the next layer's mask.

    With x = 1 both y and (y − 1)² take two values, the larger one less than their bound M.
    """
    masks = DropoutMasks(setting.seed, 1, np.arange(setting.samples))
    ones = np.ones((setting.samples, *setting.shape))
    for rate in (0.1, 0.5, float(setting.numbers(1, 0.05, 0.9)[0])):
        keep, other = masks.keep(ones, rate, 1), masks.keep(ones, rate, 2)
        both = np.bincount((2 * keep + other).ravel(), minlength=4)
        p = np.array([rate, 1 - rate])
        yield frequency_test(both, np.outer(p, p).ravel())
        y, _ = dropout(ones, keep, rate=rate)
        odds = rate / (1 - rate)
        yield subgamma_test(y, 1.0, odds, max(1.0, odds) / 3)
        square = (y - 1) ** 2  # 1 with probability rate, odds² otherwise
        spread = rate * (1 - odds) ** 2 + (1 - rate) * (odds**2 - odds) ** 2
        yield subgamma_test(square, odds, spread + 1e-20, max(1.0, odds**2) / 3)


@identity(
    "xxiv",
    "initial values",
    "weights and biases ~ U(−b, b), b = 1/√fan_in:  Var = 1/(3 fan_in), layer by layer",
    UNet.__init__,
    Parameters.initial_values,
)
def initial_values_are_uniform(setting: Setting) -> Iterator[Comparison]:
    """Null: 3 fan_in θ² has the mean 1 (and, in [0, 3], the variance 4/5); θ is uniform."""
    config = UNetConfig(
        image_size=8, channels=(8, 16, 24), attention_at=(4,), groups=8, zero_init=False
    )
    parameters = UNet(config, setting.seed, dtype=np.float64).parameters.named()
    for name, parameter in parameters.items():
        layer = name.rsplit(".", 1)[0]
        if "norm" not in layer.rsplit(".", 1)[-1]:
            fan_in = math.prod(parameters[f"{layer}.weight"].shape[:-1])
            scaled = math.sqrt(fan_in) * parameter.value
            yield subgamma_test(3 * scaled**2, 1.0, 0.8, 2 / 3)
            yield ks_test(scaled, _uniform_cdf)


def _uniform_cdf(x: Array) -> Array:
    """The distribution function of U(−1, 1)."""
    cdf: Array = np.clip((x + 1) / 2, 0.0, 1.0)
    return cdf


@identity(
    "xxv",
    "time is the image's own",
    "ε_θ(P x, P t) = P ε_θ(x, t) for permutations P of the batch, and ε_θ(x, t) ≠ ε_θ(x, t′)",
    UNet.forward,
    time_embedding,
)
def time_is_the_images_own(setting: Setting) -> Iterator[Comparison]:
    """The error of the permuted batch. At other times the same images must give another output, by
    more than a thousandth.
    """
    config = UNetConfig(
        image_size=8, channels=(8, 16), attention_at=(4,), groups=4, zero_init=False
    )
    network = UNet(config, setting.seed, dtype=np.float64)
    x = np.resize(setting.normal(0), (4, 8, 8, 1))
    t, order = np.array([3, 700, 10, 40]), np.array([2, 0, 3, 1])
    y, _ = network.forward(x, t)
    permuted, _ = network.forward(x[order], t[order])
    yield exactly(relative_error(permuted, y[order]), 1e-10)
    later, _ = network.forward(x, t + 100)
    yield exactly(0.0 if relative_error(later, y) > 1e-3 else math.inf, 1e-10)


@identity(
    "xxvi",
    "normalised is normalised",
    "group_norm(a x + b) = group_norm(x), also where b is a thousand standard deviations (float32)",
    group_norm,
)
def normalisation_ignores_offset_and_scale(setting: Setting) -> Iterator[Comparison]:
    """The error in float32: x itself has lost 1000 × 6·10⁻⁸ of its standard deviation."""
    x = np.resize(setting.normal(0), (4, 8, 8, 8))
    one, zero = np.ones(8, np.float32), np.zeros(8, np.float32)
    expected, _ = group_norm(x, one.astype(float), zero.astype(float), groups=2, norm_eps=1e-10)
    for scale, offset in ((1.0, 0.0), (3.0, 5.0), (1.0, 1000.0)):
        shifted = (scale * x + offset).astype(np.float32)
        found, _ = group_norm(shifted, one, zero, groups=2, norm_eps=1e-10)
        yield exactly(relative_error(found, expected), 1e-3)
