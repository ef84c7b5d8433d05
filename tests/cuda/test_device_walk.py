"""Sampling by recorded steps gives the images of the reference chain."""

import itertools

import numpy as np
import pytest

from tinyddpm.arrays import to_device, to_host
from tinyddpm.diffusion.gaussian import GaussianDiffusion
from tinyddpm.diffusion.guidance import guided_model
from tinyddpm.diffusion.schedule import NoiseSchedule
from tinyddpm.nn.config import UNetConfig
from tinyddpm.nn.embedding import network_time
from tinyddpm.nn.unet import UNet
from tinyddpm.training import device_walk
from tinyddpm.training.kernel_choice import cuda_runtime, kernels_for

pytestmark = pytest.mark.cuda_sim

CASES = list(itertools.product(["eps", "x0", "v", "score"], [None, 0.0, 0.7]))
DRAW = {"seed": 3, "stream": "preview"}


def network_of(variance, channels=1, classes=0):
    outputs = channels * (2 if variance == "learned" else 1)
    config = UNetConfig(
        image_size=6,
        in_channels=channels,
        out_channels=outputs,
        channels=(4, 8),
        groups=2,
        classes=classes,
        zero_init=False,
    )
    return UNet(config, seed=1)


@pytest.mark.parametrize("variance", ["beta", "beta_tilde", "learned"])
@pytest.mark.parametrize(("predict", "eta"), CASES)
def test_every_chain_is_walked_as_the_reference_walks_it(sim, predict, eta, variance):
    network = network_of(variance, channels=3)
    chain = GaussianDiffusion(NoiseSchedule.cosine(20), predict, variance).respace(5)
    shape = (3, 6, 6, 3)

    def model(x, t):
        return network.forward(x, network_time(t))[0]

    if eta is None:
        reference = chain.sample_steps(model, shape, **DRAW)
    else:
        reference = chain.ddim_steps(model, shape, eta=eta, **DRAW)
    walked = list(device_walk.device_walk(network, chain, sim, shape, eta=eta, **DRAW))
    assert [step.t for step in walked] == [5, 4, 3, 2, 1]
    for mine, expected in zip(walked, reference, strict=True):
        np.testing.assert_allclose(mine.x0_hat, expected.x0_hat, atol=1e-4)
        np.testing.assert_allclose(mine.x, expected.x, atol=1e-4)
    assert np.abs(walked[0].x - walked[1].x).max() > 0.01


@pytest.mark.parametrize("guidance", [0.0, 1.5])
@pytest.mark.parametrize("variance", ["beta", "learned"])
def test_classes_and_guidance_are_those_of_the_reference(sim, monkeypatch, variance, guidance):
    monkeypatch.setattr(device_walk, "AT_ONCE", 2)
    network = network_of(variance, classes=4)
    chain = GaussianDiffusion(NoiseSchedule.cosine(20), variance=variance).respace(3)
    labels = np.array([3, 0, 2])

    def conditional(x, t, labels):
        return network.forward(x, network_time(t), labels=labels)[0]

    model = guided_model(conditional, labels, null_label=4, weight=guidance)
    expected = chain.sample(model, (3, 6, 6, 1), **DRAW)
    told = device_walk.Told(labels, 4, guidance)
    *_, last = device_walk.device_walk(
        network, chain, sim, (3, 6, 6, 1), eta=None, told=told, **DRAW
    )
    np.testing.assert_allclose(last.x, expected, atol=1e-4)


def test_a_walk_may_begin_at_a_given_noise(sim):
    network = network_of("beta")
    chain = GaussianDiffusion(NoiseSchedule.cosine(20)).respace(3)
    x_T = np.random.default_rng(0).standard_normal((2, 6, 6, 1)).astype(np.float32)

    def model(x, t):
        return network.forward(x, network_time(t))[0]

    *_, expected = chain.ddim_steps_from(model, x_T)
    walk = device_walk.device_walk(network, chain, sim, x_T.shape, eta=0.0, x_T=x_T, **DRAW)
    *_, last = walk
    np.testing.assert_allclose(last.x, expected.x, atol=1e-4)


def test_a_captured_walk_in_parts_is_the_reference(cupy, monkeypatch):
    """The network's own kernels, batches of two of five images, and what is launched is frozen."""
    monkeypatch.setattr(device_walk, "AT_ONCE", 2)
    reference = network_of("beta")
    values = to_device(reference.parameters.value, "cuda")
    network = UNet(reference.config, kernels=kernels_for("cuda"), values=values)
    chain = GaussianDiffusion(NoiseSchedule.cosine(20)).respace(4)
    shape = (5, 6, 6, 1)
    expected = chain.sample(lambda x, t: reference.forward(x, network_time(t))[0], shape, **DRAW)
    *_, last = device_walk.device_walk(network, chain, cuda_runtime(), shape, eta=None, **DRAW)
    assert isinstance(last.x, cupy.ndarray)
    np.testing.assert_allclose(to_host(last.x), expected, atol=1e-5)
