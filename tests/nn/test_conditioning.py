"""The two ways in which the time enters a block, each against the ops that define it."""

import numpy as np
import pytest
from networks import narrow, random_network

from tinyddpm.kernels.cpu import cpu
from tinyddpm.ops.conv2d import conv2d
from tinyddpm.ops.group_norm import group_norm
from tinyddpm.ops.kernels import reference
from tinyddpm.ops.linear import linear
from tinyddpm.ops.scale_shift import scale_shift
from tinyddpm.ops.silu import silu


def added(h, e, norm):
    return norm(h + e[:, None, None])


def scaled_and_shifted(h, e, norm):
    y, _ = scale_shift(norm(h), *np.split(e, 2, axis=1))
    return y


@pytest.mark.parametrize("kernels", [reference, cpu], ids=["reference", "cpu"])
@pytest.mark.parametrize(
    ("preset", "conditioned"), [("cifar10", added), ("cifar10-improved", scaled_and_shifted)]
)
def test_the_time_enters_as_it_is_defined(preset, conditioned, kernels):
    config = narrow(preset)
    network = random_network(config, kernels=kernels)
    network.parameters.prepare()
    time = network.middle[0].block.time
    random = np.random.default_rng(0)
    x = random.standard_normal((2, 4, 4, config.channels[-1]))
    emb = random.standard_normal((2, 4 * config.channels[0]))

    def norm(h):
        affine = time.norm.weight.value, time.norm.bias.value
        y, _ = group_norm(h, *affine, groups=config.groups, norm_eps=config.norm_eps)
        return y

    e, _ = linear(emb, time.project.weight.value, time.project.bias.value)
    h, _ = conv2d(x, time.conv.weight.value, time.conv.bias.value, stride=1, pad=(1, 1))
    expected, _ = silu(conditioned(h, e, norm))
    y, _ = time.forward(x, emb)
    np.testing.assert_allclose(y, expected, rtol=0, atol=1e-12)
