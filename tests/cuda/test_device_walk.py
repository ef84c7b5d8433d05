"""Sampling by recorded steps gives the images of the reference chain."""

import itertools
import threading

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
from tinyddpm.training.device_walk import DeviceWalks
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


def model_of(network):
    return lambda x, t: network.forward(x, network_time(t))[0]


def on_the_device(network):
    """The same network of the kernels of our own."""
    values = to_device(network.parameters.value, "cuda")
    return UNet(network.config, kernels=kernels_for("cuda"), values=values)


@pytest.fixture(params=["simulated", pytest.param("gpu", marks=pytest.mark.cuda)])
def walker(request):
    """A runtime, what puts a network where it computes, and how near to come to the reference.

    The simulated one works on the host, with the very network. Of one that rounds otherwise x̂_0 is
    1/√ᾱ_T = 406 times as far off as its ε.
    """
    if request.param == "gpu":
        return request.getfixturevalue("gpu"), on_the_device, 1e-3
    return request.getfixturevalue("sim"), lambda network: network, 1e-4


@pytest.mark.parametrize("variance", ["beta", "beta_tilde", "learned"])
@pytest.mark.parametrize(("predict", "eta"), CASES)
def test_every_chain_is_walked_as_the_reference_walks_it(walker, predict, eta, variance):
    runtime, place, near = walker
    network = network_of(variance, channels=3)
    chain = GaussianDiffusion(NoiseSchedule.cosine(20), predict, variance).respace(5)
    shape, model = (3, 6, 6, 3), model_of(network)
    if eta is None:
        reference = chain.sample_steps(model, shape, **DRAW)
    else:
        reference = chain.ddim_steps(model, shape, eta=eta, **DRAW)
    walked = list(DeviceWalks(place(network), chain, runtime, shape, eta=eta, **DRAW).walk())
    assert [step.t for step in walked] == [5, 4, 3, 2, 1]
    for mine, expected in zip(walked, reference, strict=True):
        np.testing.assert_allclose(to_host(mine.x0_hat), expected.x0_hat, atol=near)
        np.testing.assert_allclose(to_host(mine.x), expected.x, atol=near)
    assert np.abs(to_host(walked[0].x - walked[1].x)).max() > 0.01


@pytest.mark.parametrize("guidance", [0.0, 1.5])
@pytest.mark.parametrize("variance", ["beta", "learned"])
def test_classes_and_guidance_are_those_of_the_reference(walker, monkeypatch, variance, guidance):
    monkeypatch.setattr(device_walk, "AT_ONCE", 2)
    runtime, place, near = walker
    network, shape = network_of(variance, classes=4), (3, 6, 6, 1)
    chain = GaussianDiffusion(NoiseSchedule.cosine(20), variance=variance).respace(3)
    walks = DeviceWalks(place(network), chain, runtime, shape, guidance=guidance, **DRAW)

    def conditional(x, t, labels):
        return network.forward(x, network_time(t), labels=labels)[0]

    found = []
    for labels in (np.array([3, 0, 2]), np.array([1, 4, 4])):
        model = guided_model(conditional, labels, null_label=4, weight=guidance)
        *_, last = walks.walk(labels=labels)
        found.append(to_host(last.x))
        np.testing.assert_allclose(found[-1], chain.sample(model, shape, **DRAW), atol=near)
    assert np.abs(found[0] - found[1]).max() > 0.01
    *_, last = walks.walk()
    expected = chain.sample(model_of(network), shape, **DRAW)
    np.testing.assert_allclose(to_host(last.x), expected, atol=near)


def test_classes_that_are_none_are_refused(cupy):
    del cupy
    network = on_the_device(network_of("beta", classes=4))
    chain = GaussianDiffusion(NoiseSchedule.cosine(20)).respace(2)
    walks = DeviceWalks(network, chain, cuda_runtime(), (2, 6, 6, 1))
    for labels in ([0, 5], [-1, 0]):
        with pytest.raises(ValueError, match="labels must lie in 0 … 4"):
            next(walks.walk(labels=np.array(labels)))


def test_a_walk_may_begin_at_a_given_noise(sim):
    network = network_of("beta")
    chain = GaussianDiffusion(NoiseSchedule.cosine(20)).respace(3)
    x_T = np.random.default_rng(0).standard_normal((2, 6, 6, 1)).astype(np.float32)
    *_, expected = chain.ddim_steps_from(model_of(network), x_T)
    *_, last = DeviceWalks(network, chain, sim, x_T.shape, eta=0.0, **DRAW).walk(x_T=x_T)
    np.testing.assert_allclose(last.x, expected.x, atol=1e-4)


def test_what_is_not_a_number_is_not_clipped_to_one(sim):
    network = network_of("beta")
    network.parameters.named()["conv_out.bias"].value[...] = np.nan
    chain = GaussianDiffusion(NoiseSchedule.cosine(20)).respace(2)
    for step in DeviceWalks(network, chain, sim, (1, 6, 6, 1)).walk():
        assert np.isnan(step.x0_hat).all()
        assert np.isnan(step.x).all()


@pytest.mark.parametrize(
    "cupy", ["sim", pytest.param("ptx", marks=pytest.mark.cuda_compile)], indirect=True
)
def test_captured_walks_in_parts_are_the_reference(cupy, monkeypatch):
    """The network's own kernels, batches of two of five images, and what is launched is frozen.

    The second walk is by the step that was recorded in the first, and with other noise; weights are
    turned into operands once.
    """
    monkeypatch.setattr(device_walk, "AT_ONCE", 2)
    reference = network_of("beta")
    network, launched = on_the_device(reference), []
    chain, shape = GaussianDiffusion(NoiseSchedule.cosine(20)).respace(4), (5, 6, 6, 1)
    runtime, launch = cuda_runtime(), type(cuda_runtime()).launch

    def spying(self, function, *args, **options):
        launched.append(function.name)
        launch(self, function, *args, **options)

    monkeypatch.setattr(type(runtime), "launch", spying)
    walks = DeviceWalks(network, chain, runtime, shape, **DRAW)
    for first_sample in (0, 70_000):
        *_, last = walks.walk(first_sample)
        assert isinstance(last.x, cupy.ndarray)
        expected = chain.sample(model_of(reference), shape, first_sample=first_sample, **DRAW)
        np.testing.assert_allclose(to_host(last.x), expected, atol=1e-5)
    weights = [p for p in network.parameters if p.prepare]
    assert launched.count("pack_weights") == len(weights)
    assert launched.count("denoise") == 2 * 3  # three parts, done once and written down once


def test_a_model_is_walked_in_another_thread_than_it_was_made(cupy):
    """Each thread of CuPy's has a current stream of its own."""
    del cupy
    reference, found = network_of("beta"), []
    network = on_the_device(reference)
    chain, shape = GaussianDiffusion(NoiseSchedule.cosine(20)).respace(2), (2, 6, 6, 1)

    def walk():
        *_, last = DeviceWalks(network, chain, cuda_runtime(), shape, **DRAW).walk()
        found.append(to_host(last.x))

    thread = threading.Thread(target=walk)
    thread.start()
    thread.join()
    expected = chain.sample(model_of(reference), shape, **DRAW)
    np.testing.assert_allclose(found[0], expected, atol=1e-5)
