"""What a network starts from."""

import math

import numpy as np
import pytest
from networks import images, narrow

from tinyddpm.nn.config import PRESETS
from tinyddpm.nn.unet import UNet

ZERO_INIT = [name for name in PRESETS if PRESETS[name].zero_init]


def starts_at_zero(name):
    """Whether ``name`` belongs to the last layer of a branch, or of the network."""
    layer = name.rsplit(".", 1)[0]
    return layer == "conv_out" or layer.endswith((".conv2", ".attention.out"))


def is_norm(name):
    return "norm" in name.split(".")[-2]


def test_which_presets_start_their_branches_at_zero():
    assert ZERO_INIT == ["glyphs", "mnist", "cifar10", "cifar10-improved"]


@pytest.mark.parametrize("name", PRESETS)
def test_norms_are_neutral_and_nothing_but_the_ends_of_branches_is_zero(name):
    config = narrow(name)
    for parameter in UNet(config).parameters:
        values = parameter.value
        if is_norm(parameter.name):
            neutral = 1 if parameter.name.endswith(".weight") else 0
            assert (values == neutral).all(), parameter.name
        elif config.zero_init and starts_at_zero(parameter.name):
            assert (values == 0).all(), parameter.name
        else:
            assert (values != 0).all(), parameter.name


@pytest.mark.parametrize("name", PRESETS)
def test_the_prediction_at_the_start_is_zero_where_the_ends_are(name):
    network = UNet(narrow(name))
    y, _ = network.forward(images(network.config, 2, dtype=np.float32), np.array([0, 500]))
    assert bool((y == 0).all()) == (name in ZERO_INIT)


@pytest.mark.parametrize("name", ["mnist", "mnist-1.7m"])
def test_variance_is_a_third_of_one_over_fan_in(name):
    """Uniform in ±b has mean square b²/3, whose mean over n draws has the standard deviation
    √(4/(45 n)) b². Ten of these are allowed, which a wrong fan-in exceeds in any but the smallest.
    """
    parameters = UNet(PRESETS[name], seed=3).parameters.named()
    for key, parameter in parameters.items():
        if is_norm(key) or (PRESETS[name].zero_init and starts_at_zero(key)):
            continue
        values = parameter.value.astype(np.float64)
        weight = parameters[key.rsplit(".", 1)[0] + ".weight"]
        fan_in = math.prod(weight.shape[:-1])
        deviation = math.sqrt(4 / 45 / values.size) / fan_in
        assert abs(np.mean(values**2) - 1 / (3 * fan_in)) < 10 * deviation, key
        assert abs(np.mean(values)) < 10 * math.sqrt(1 / (3 * fan_in * values.size)), key
        assert np.abs(values).max() <= fan_in**-0.5 * (1 + 1e-6), key


def test_labels_start_with_the_variance_of_published_embeddings():
    """One, of a uniform distribution, as above with b² = 3."""
    values = UNet(narrow("mnist", classes=99), seed=3).parameters.named()["label.weight"].value
    deviation = 3 * math.sqrt(4 / 45 / values.size)
    assert abs(np.mean(values.astype(np.float64) ** 2) - 1) < 6 * deviation
    assert np.abs(values).max() <= math.sqrt(3) * (1 + 1e-6)


def test_the_start_depends_on_the_seed_alone():
    config = narrow("mnist")
    first, again = UNet(config, seed=1).parameters.value, UNet(config, seed=1).parameters.value
    np.testing.assert_array_equal(first, again)
    unnamed, zero = UNet(config).parameters.value, UNet(config, seed=0).parameters.value
    np.testing.assert_array_equal(unnamed, zero)
    other = UNet(config, seed=2).parameters.value
    drawn = first != other  # the rest are the zeros and ones that no seed changes
    expected = sum(
        p.size
        for p in UNet(config).parameters
        if not is_norm(p.name) and not starts_at_zero(p.name)
    )
    assert abs(int(drawn.sum()) - expected) <= 2  # two float32 may coincide


def test_float32_starts_where_float64_does():
    config = narrow("cifar10")
    single, double = UNet(config), UNet(config, dtype=np.float64)
    assert (single.parameters.value.dtype, double.parameters.value.dtype) == (
        np.float32,
        np.float64,
    )
    np.testing.assert_allclose(single.parameters.value, double.parameters.value, rtol=1e-6)


def test_no_two_layers_start_alike():
    weights = [p.value.ravel()[:72] for p in UNet(narrow("mnist-1.7m")).parameters if p.bound]
    scaled = [w / np.abs(w).max() for w in weights if w.size == 72]
    assert len(scaled) > 20
    for i, a in enumerate(scaled):
        assert not any(np.allclose(a, b, atol=1e-3) for b in scaled[:i])
