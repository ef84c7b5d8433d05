"""The U-Net as a function: what it depends on, what it changes, and what it refuses."""

import copy
import weakref
from dataclasses import replace

import numpy as np
import pytest
from networks import images, narrow, random_network

from tinyddpm.errors import UsageError
from tinyddpm.kernels.cpu import cpu
from tinyddpm.nn.config import UNetConfig
from tinyddpm.nn.masks import DropoutMasks
from tinyddpm.nn.unet import UNet
from tinyddpm.ops.kernels import reference

FAMILIES = ["mnist", "cifar10", "cifar10-improved"]
T = np.array([3, 700])


def arrays(saved):
    """Every array in a tree of tuples and lists."""
    if isinstance(saved, np.ndarray):
        return [saved]
    if isinstance(saved, tuple | list):
        return [array for part in saved for array in arrays(part)]
    return []


def gradients(network, x, t, dy, masks=None):
    network.parameters.grad[...] = 0
    _, saved = network.forward(x, t, masks=masks)
    dx = network.backward(dy, saved)
    return dx, network.parameters.grad.copy()


def relative_error(got, expected):
    return np.abs(got - expected).max() / np.abs(expected).max()


@pytest.mark.parametrize("name", FAMILIES)
def test_neither_pass_changes_what_it_was_given(name):
    network = random_network(narrow(name, dropout=0.2))
    x = images(network.config, 2)
    masks = DropoutMasks(seed=1, step=2, samples=np.arange(2))
    before = copy.deepcopy((x, T, network.parameters.value))
    y, saved = network.forward(x, T, masks=masks)
    np.testing.assert_array_equal(network.parameters.grad, 0)

    dy = np.random.default_rng(1).standard_normal(y.shape)
    kept, dy_before = copy.deepcopy(arrays(saved)), dy.copy()
    assert len(kept) > 100
    network.backward(dy, saved)
    for array, as_it_was in zip(arrays(saved), kept, strict=True):
        np.testing.assert_array_equal(array, as_it_was)
    np.testing.assert_array_equal(dy, dy_before)
    for array, as_it_was in zip((x, T, network.parameters.value), before, strict=True):
        np.testing.assert_array_equal(array, as_it_was)


@pytest.mark.parametrize("name", FAMILIES)
def test_backward_adds_to_the_gradients(name):
    network = random_network(narrow(name))
    x, other = images(network.config, 2), images(network.config, 2, seed=1)
    dy = np.random.default_rng(2).standard_normal(network.forward(x, T)[0].shape)
    _, first = gradients(network, x, T, dy)
    _, second = gradients(network, other, T, dy)
    saved_of_both = [network.forward(images_, T)[1] for images_ in (x, other)]
    network.parameters.grad[...] = 0
    for saved in saved_of_both:
        network.backward(dy, saved)
    np.testing.assert_array_equal(network.parameters.grad, first + second)
    assert np.abs(first - second).max() > 0.1 * np.abs(first).max()


@pytest.mark.parametrize("name", FAMILIES)
def test_every_parameter_gets_a_gradient(name):
    network = random_network(narrow(name))
    x = images(network.config, 2)
    y, saved = network.forward(x, T)
    network.backward(np.random.default_rng(1).standard_normal(y.shape), saved)
    for parameter in network.parameters:
        assert parameter.grad.any(), parameter.name


@pytest.mark.parametrize("name", FAMILIES)
def test_images_do_not_see_each_other(name):
    network = random_network(narrow(name))
    x, t = images(network.config, 3), np.array([1, 50, 900])
    dy = np.random.default_rng(1).standard_normal(network.forward(x, t)[0].shape)
    y, _ = network.forward(x, t)
    dx, grad = gradients(network, x, t, dy)
    one_by_one = 0
    for i in range(3):
        only = slice(i, i + 1)
        alone, _ = network.forward(x[only], t[only])
        dx_alone, grad_alone = gradients(network, x[only], t[only], dy[only])
        one_by_one = one_by_one + grad_alone
        assert relative_error(alone, y[only]) < 1e-12
        assert relative_error(dx_alone, dx[only]) < 1e-12
    assert relative_error(one_by_one, grad) < 1e-12


@pytest.mark.parametrize("name", FAMILIES)
def test_float32_agrees_with_float64(name):
    double = random_network(narrow(name))
    single = UNet(double.config, values=double.parameters.value.astype(np.float32))
    x = images(double.config, 2)
    y, _ = double.forward(x, T)
    y32, _ = single.forward(x.astype(np.float32), T)
    dy = np.random.default_rng(1).standard_normal(y.shape)
    dx, grad = gradients(double, x, T, dy)
    dx32, grad32 = gradients(single, x.astype(np.float32), T, dy.astype(np.float32))
    assert y32.dtype == dx32.dtype == grad32.dtype == np.float32
    assert relative_error(y32, y) < 1e-4
    assert relative_error(dx32, dx) < 1e-4
    assert relative_error(grad32, grad) < 1e-4


def test_the_time_is_scaled_as_in_improved_diffusion():
    """A chain of 4000 steps feeds t · 1000/4000, fractions included."""
    scaled = random_network(narrow("cifar10-improved"))
    unscaled = UNet(replace(scaled.config, time_scale=1.0), values=scaled.parameters.value)
    x = images(scaled.config, 2)
    y, _ = scaled.forward(x, np.array([3, 3999]))
    np.testing.assert_array_equal(y, unscaled.forward(x, np.array([0.75, 999.75]))[0])
    assert relative_error(unscaled.forward(x, np.array([3, 3999]))[0], y) > 1e-3


@pytest.mark.parametrize("name", FAMILIES)
def test_each_image_has_its_own_time(name):
    network = random_network(narrow(name))
    x = np.repeat(images(network.config, 1), 2, axis=0)
    (first, second), _ = network.forward(x, np.array([5, 600]))
    (swapped, _), _ = network.forward(x, np.array([600, 5]))
    assert relative_error(first, second) > 1e-3
    assert relative_error(swapped, second) < 1e-12


def test_images_of_another_shape_are_refused():
    network = UNet(narrow("mnist"))
    for shape in ((1, 32, 32, 1), (1, 28, 28, 3), (28, 28, 1), (1, 28, 28), (1, 1, 28, 28)):
        with pytest.raises(UsageError, match=r"an array of shape \(N, 28, 28, 1\)") as refusal:
            network.forward(np.zeros(shape, np.float32), np.array([1]))
        assert str(shape) in refusal.value.cause
    with pytest.raises(UsageError, match="an array of shape"):
        network.forward(np.zeros((1, 28, 28, 1)).tolist(), np.array([1]))


def test_images_of_bytes_are_refused():
    """Not scaled to [−1, 1] they would go through, and the prediction mean nothing."""
    network = UNet(narrow("mnist"))
    with pytest.raises(UsageError, match="floating-point") as refusal:
        network.forward(np.zeros((1, 28, 28, 1), np.uint8), np.array([1]))
    assert "uint8" in refusal.value.cause


def test_no_images_are_refused():
    with pytest.raises(UsageError, match=r"shape \(N, 28, 28, 1\), one or more"):
        UNet(narrow("mnist")).forward(np.zeros((0, 28, 28, 1), np.float32), np.zeros(0, int))


@pytest.mark.parametrize("t", [1, np.int64(1), [1, 2], np.array([1]), np.array([[1, 2]])], ids=repr)
def test_times_that_are_not_one_an_image_are_refused(t):
    network = UNet(narrow("mnist"))
    with pytest.raises(UsageError, match=r"times must be an array of shape \(2,\)"):
        network.forward(np.zeros((2, 28, 28, 1), np.float32), t)


@pytest.mark.parametrize("config", ["mnist", {"image_size": 28}, UNetConfig], ids=type)
def test_a_network_is_made_of_a_config(config):
    with pytest.raises(UsageError, match="made of a UNetConfig") as refusal:
        UNet(config)
    assert "preset" in refusal.value.remedy


@pytest.mark.parametrize("kernels", [reference, cpu], ids=lambda kernels: kernels.name)
def test_a_deep_copy_has_flat_buffers_of_its_own(kernels):
    network = random_network(narrow("mnist"), kernels=kernels)
    x = images(narrow("mnist"), 2)
    y, _ = network.forward(x, T)
    twin = copy.deepcopy(network)
    twin_y, saved = twin.forward(x, T)
    np.testing.assert_array_equal(twin_y, y)
    twin.backward(y, saved)
    assert twin.parameters.grad.any()
    twin.parameters.value[:] = 0.0
    assert not twin.forward(x, T)[0].any()
    np.testing.assert_array_equal(network.forward(x, T)[0], y)
    assert not network.parameters.grad.any()


@pytest.mark.parametrize("kernels", ["cpu", None, cpu.conv2d], ids=type)
def test_kernels_are_a_table(kernels):
    with pytest.raises(UsageError, match="table of functions") as refusal:
        UNet(narrow("mnist"), kernels=kernels)
    assert "tinyddpm.kernels.cpu.cpu" in refusal.value.remedy


@pytest.mark.parametrize("name", FAMILIES)
def test_a_backward_may_use_up_what_was_saved(name):
    network = random_network(narrow(name, dropout=0.2))
    x = images(network.config, 2)
    masks = DropoutMasks(seed=1, step=2, samples=np.arange(2))
    dy = np.random.default_rng(1).standard_normal(network.forward(x, T)[0].shape)
    dx, grad = gradients(network, x, T, dy, masks)
    network.parameters.grad[...] = 0
    _, saved = network.forward(x, T, masks=masks)
    held = [weakref.ref(array) for array in arrays((saved.down, saved.middle, saved.up))]
    np.testing.assert_array_equal(network.backward(dy, saved, use_up=True), dx)
    np.testing.assert_array_equal(network.parameters.grad, grad)
    left = [array() for array in held if array() is not None]
    mine = [network.parameters.value, x]
    assert all(any(np.shares_memory(array, m) for m in mine) for array in left)
    assert len(held) > 100


def test_what_is_used_up_goes_stage_by_stage():
    network = random_network(narrow("mnist"))
    x = images(network.config, 2)
    y, saved = network.forward(x, T)
    of_decoder = [weakref.ref(s.block.conv2.x) for level in saved.up for s in level.stages]
    of_encoder = [weakref.ref(s.block.conv2.x) for level in saved.down for s in level.stages]
    alive = []
    first_level = network.down[0].backward

    def last_but_one(*args):
        alive.append([[array() is not None for array in part] for part in (of_decoder, of_encoder)])
        return first_level(*args)

    network.down[0].backward = last_but_one
    network.backward(np.ones_like(y), saved, use_up=True)
    ((decoder, encoder),) = alive
    assert not any(decoder[:-1])
    assert all(encoder[: network.config.blocks])


def test_a_replica_shares_values_and_has_slots_for_gradients():
    network = random_network(narrow("mnist"), dtype=np.float32)
    replica, slots = network.replica()
    assert replica.parameters.value is network.parameters.value
    x = images(network.config, 2, dtype=np.float32)
    y, saved = replica.forward(x, T)
    dx, grad = gradients(network, x, T, np.ones_like(y))
    network.parameters.grad[...] = 0
    np.testing.assert_array_equal(replica.backward(np.ones_like(y), saved), dx)
    np.testing.assert_array_equal(network.parameters.grad, 0)
    found = [slot.emptied() for slot in slots]
    assert [array.shape for array in found] == [p.shape for p in network.parameters]
    np.testing.assert_array_equal(np.concatenate([array.ravel() for array in found]), grad)
    network.parameters.value *= 0.5
    after, _ = replica.forward(x, T)
    np.testing.assert_array_equal(after, network.forward(x, T)[0])
    assert (after != y).any()


@pytest.mark.parametrize("kernels", [reference, cpu], ids=["reference", "cpu"])
@pytest.mark.parametrize("name", FAMILIES)
def test_a_network_for_predictions_alone_makes_the_same_and_keeps_next_to_nothing(name, kernels):
    config = narrow(name)
    network = random_network(config, kernels=kernels)
    alone = network.forward_only()
    assert alone.parameters.value is network.parameters.value
    assert alone.parameters.grad is network.parameters.grad
    x = images(config, 2)
    y, saved = network.forward(x, T)
    predicted, kept = alone.forward(x, T)
    np.testing.assert_array_equal(predicted, y)
    scales = {"add": 0, "scale-shift": 1}[config.conditioning]  # they are not of the table
    blocks = 2 + len(config.channels) * (2 * config.blocks + 1)
    assert [array.ndim for array in arrays(kept)] == [2] * scales * blocks
    assert len(arrays(saved)) > 10 * blocks


class Preparing:
    """A table whose convolutions work on a copy of their weights, as the fast ones do."""

    def __init__(self):
        self.calls = 0
        prepares = dict.fromkeys(("prepare_conv2d", "prepare_conv2d_for_norm"), self.prepare)
        self.kernels = replace(reference, name="preparing", **prepares)

    def prepare(self, weight):
        self.calls += 1
        return weight.copy()


def test_weights_are_prepared_anew_unless_the_caller_did_so():
    table = Preparing()
    network = random_network(narrow("mnist"), kernels=table.kernels)
    convolutions = sum(len(p.shape) == 4 for p in network.parameters)
    x = images(network.config, 2)
    y, _ = network.forward(x, T)
    network.parameters.value *= 0.9
    calls = table.calls
    stale, _ = network.forward(x, T, prepare=False)
    assert table.calls == calls
    fresh, _ = network.forward(x, T)
    assert table.calls == calls + convolutions
    expected, _ = UNet(network.config, values=network.parameters.value).forward(x, T)
    np.testing.assert_array_equal(fresh, expected)
    assert (stale != fresh).any()
    assert (stale != y).any()  # norms and linear layers are not prepared


def test_a_replica_adopts_what_the_first_has_prepared():
    table = Preparing()
    network = random_network(narrow("mnist"), kernels=table.kernels)
    replica, _ = network.replica()
    network.parameters.value *= 0.9
    network.parameters.prepare()
    calls = table.calls
    replica.parameters.adopt_prepared(network.parameters)
    for mine, theirs in zip(replica.parameters, network.parameters, strict=True):
        assert mine.prepared is theirs.prepared
    x = images(network.config, 2)
    y, _ = replica.forward(x, T, prepare=False)
    assert table.calls == calls
    np.testing.assert_array_equal(y, network.forward(x, T)[0])
