"""The reference table on arrays of a GPU: the same text, the same numbers, and no waiting."""

import fake_cupy
import numpy as np
import pytest
from test_table import NETWORKS, network_like

from tinyddpm.arrays import to_device, to_host
from tinyddpm.nn.config import UNetConfig
from tinyddpm.nn.unet import UNet
from tinyddpm.ops.kernels import reference

pytestmark = pytest.mark.cuda_sim


def refused(*_, **__):
    raise AssertionError("the host waits for a value of the device")


def images(channels):
    return np.random.default_rng(1).standard_normal((2, 8, 8, channels)).astype(np.float32)


def passed(network, x, t, dy, labels):
    y, saved = network.forward(x, t, labels=labels)
    return y, network.backward(dy, saved), network.parameters.grad


@pytest.mark.parametrize("preset", [*NETWORKS, "classes"])
def test_a_network_of_the_reference_is_all_on_the_device(cupy, monkeypatch, preset):
    if preset == "classes":
        config = UNetConfig(image_size=8, channels=(4, 8), groups=2, classes=3, zero_init=False)
        host, labels = UNet(config), np.array([3, 1])
    else:
        host, labels = network_like(preset, reference, np.float32), None
    config = host.config
    given = [
        images(config.in_channels),
        np.array([3, 700]),
        images(config.out_channels),
        labels,
    ]
    expected = passed(host, *given)
    network = UNet(config, values=to_device(host.parameters.value, "cuda"))
    there = [None if array is None else to_device(array, "cuda") for array in given]
    uploads = cupy.uploads()
    with monkeypatch.context() as patch:
        for waiting in ("get", "__float__", "__bool__"):
            patch.setattr(fake_cupy.ndarray, waiting, refused)
        results = passed(network, *there)
    assert cupy.uploads() == uploads
    for mine, exact in zip(results, expected, strict=True):
        assert mine.dtype == np.float32
        np.testing.assert_array_equal(to_host(mine), exact)
