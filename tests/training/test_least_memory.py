"""The least memory of a step: a step takes no less, and not many times as much."""

import gc
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest

from tinyddpm.data import load
from tinyddpm.nn.config import UNetConfig
from tinyddpm.nn.unet import UNet
from tinyddpm.parallel import Workers
from tinyddpm.training.config import recipe
from tinyddpm.training.kernel_choice import kernels_for
from tinyddpm.training.least_memory import PER_IMAGE, kept_an_image, least_memory
from tinyddpm.training.shard import ShardWork
from tinyddpm.training.step import Trainer


def config_of(batch, shard, preset="glyphs"):
    return replace(recipe(preset, "glyphs"), batch=batch, shard=shard)


def network_of(config):
    return UNet(config.network, kernels=kernels_for("cpu"))


def taken(config, threads):
    """The most bytes that are held while a run is set up and does its first step."""
    dataset = load("glyphs")
    tracemalloc.start()
    try:
        with Workers(threads) as workers:
            Trainer(config, dataset, workers, kernels_for("cpu")).step(1)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(("batch", "shard"), [(16, 16), (48, 24), (64, 64)])
def test_a_step_takes_as_much_and_not_twice_more(batch, shard):
    config = config_of(batch, shard)
    least = least_memory(config, network_of(config), 1)
    found = taken(config, 1)
    assert 0.5 * found < least < found


def test_what_an_image_keeps_is_a_bound_where_more_are_convolved_another_way():
    """Maps of 12×12 pixels: of one image by the definition, of two by tiles, which keep more."""
    config = UNetConfig(image_size=24, channels=(64, 128), attention_at=(), groups=8)
    network = UNet(config, kernels=kernels_for("cpu"))
    least = kept_an_image(network)  # and weights are made ready
    for n in (1, 2, 3):
        x, t = np.zeros((n, 24, 24, 1), np.float32), np.zeros(n)
        network.forward(x, t, prepare=False)
        tracemalloc.start()
        try:
            _kept = network.forward(x, t, prepare=False)
            found = tracemalloc.get_traced_memory()[0] / n
        finally:
            tracemalloc.stop()
        assert 0.3 * found < least < found


def test_it_grows_with_the_images_that_are_at_work_at_once():
    small = config_of(64, 8)
    network = network_of(small)
    per_image = kept_an_image(network)
    assert 8 * per_image > 4 * network.parameters.count
    one = least_memory(small, network, 1)
    assert least_memory(small, network, 2) - one == 8 * per_image
    assert least_memory(small, network, 100) - one == 56 * per_image
    assert least_memory(config_of(64, 16), network, 1) - one == 8 * per_image
    assert least_memory(config_of(64, 10**9), network, 1) - one == 56 * per_image
    assert least_memory(config_of(10**9, 8), network, 1) - one == (10**9 - 64) * PER_IMAGE


def test_of_a_large_network_gradients_take_more_than_what_a_small_image_keeps():
    """And no step takes less than is told."""
    wide = UNetConfig(image_size=16, channels=(8, 256), attention_at=(), groups=8)
    large = replace(config_of(4, 1), network=wide)
    network = network_of(large)
    gradient = 4 * network.parameters.count
    assert kept_an_image(network) < gradient
    for threads in (1, 2, 3):
        assert least_memory(large, network, threads) == (5 + threads) * gradient + 4 * PER_IMAGE
    assert least_memory(large, network, 1) < taken(large, 1)


def test_what_is_kept_of_an_image_does_not_depend_on_how_many_there_are():
    """Prepared weights and parameters are kept once, and are none of it."""
    network = network_of(config_of(1, 1))
    x = 4 * network.config.image_size**2  # bytes of an image
    channels = sum(network.config.channels)
    assert x * channels < kept_an_image(network) < 50 * x * channels


def test_a_long_batch_takes_its_share(monkeypatch):
    """Of each image place, index, time, weight and loss, whatever is done with them."""
    monkeypatch.setattr(ShardWork, "__call__", lambda _, shard: shard.places * 0.0)
    monkeypatch.setattr(ShardWork, "add_gradient", lambda _self, _number: None)
    taken_by = {}
    for batch in (100_000, 300_000):
        config = config_of(batch, 1000)
        dataset = load("glyphs")
        with Workers(1) as workers:
            trainer = Trainer(config, dataset, workers, kernels_for("cpu"))
            trainer.step(1)  # what is made once, and kept, is made now
            gc.collect()
            tracemalloc.start()
            try:
                trainer.step(2)
                taken_by[batch] = tracemalloc.get_traced_memory()[1]
            finally:
                tracemalloc.stop()
    each = (taken_by[300_000] - taken_by[100_000]) / 200_000
    assert PER_IMAGE <= each < 1.1 * PER_IMAGE
