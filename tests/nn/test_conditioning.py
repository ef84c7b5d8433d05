"""The two ways in which the time enters a block, each against the ops that define it."""

import numpy as np
import pytest
from networks import narrow, random_network

from tinyddpm.kernels.cpu import cpu
from tinyddpm.nn.embedding import network_time
from tinyddpm.ops.conv2d import conv2d
from tinyddpm.ops.group_norm import group_norm, group_norm_backward
from tinyddpm.ops.kernels import reference
from tinyddpm.ops.linear import linear
from tinyddpm.ops.scale_shift import scale_shift, scale_shift_backward
from tinyddpm.ops.silu import silu, silu_backward


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


@pytest.mark.parametrize("kernels", [reference, cpu], ids=["reference", "cpu"])
def test_a_modulated_norm_has_the_gradients_of_scale_and_shift_behind_a_norm(kernels):
    config = narrow("cifar10-improved")
    network = random_network(config, kernels=kernels)
    norm = network.middle[0].block.time.norm
    random = np.random.default_rng(0)
    x, dy = random.standard_normal((2, 3, 4, 5, config.channels[-1]))
    scale, shift = random.standard_normal((2, 3, config.channels[-1]))
    affine = norm.weight.value, norm.bias.value
    h, normed = group_norm(x, *affine, groups=config.groups, norm_eps=config.norm_eps)
    h, modulated = scale_shift(h, scale, shift)
    _, activated = silu(h)
    dh, dscale, dshift = scale_shift_backward(silu_backward(dy, activated), modulated)
    expected = [*group_norm_backward(dh, normed), dscale, dshift]

    _, saved = norm.forward_modulated(x, scale, shift)
    dx, dscale, dshift = norm.backward_modulated(dy, saved)
    results = [dx, norm.weight.grad, norm.bias.grad, dscale, dshift]
    for result, exact in zip(results, expected, strict=True):
        np.testing.assert_allclose(result, exact, rtol=0, atol=1e-12)


def test_the_papers_first_time_is_the_published_networks_zero():
    np.testing.assert_array_equal(network_time(np.array([1, 2, 1000])), [0, 1, 999])
