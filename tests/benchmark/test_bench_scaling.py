"""Time by batch, channels and size; and what overhead is."""

from dataclasses import replace

import numpy as np
import pytest
from small_runs import narrow, tiny

from tinyddpm.benchmark import scaling
from tinyddpm.benchmark.flops import forward_products
from tinyddpm.benchmark.op_table import Stopwatch
from tinyddpm.benchmark.scaling import Point, half_point, least_arithmetic, measure_scaling
from tinyddpm.nn.config import PRESETS
from tinyddpm.nn.unet import UNet
from tinyddpm.ops.kernels import reference


def calls_of(config):
    watch = Stopwatch()
    network = UNet(config, kernels=watch.on_table(reference))
    shape = (1, config.image_size, config.image_size, config.in_channels)
    y, saved = network.forward(np.zeros(shape, np.float32), np.zeros(1))
    network.backward(y, saved)
    return watch.calls


@pytest.mark.parametrize("preset", PRESETS)
def test_overhead_is_of_as_many_calls_as_the_network_makes(preset):
    config = narrow(preset)
    calls, least = calls_of(config), calls_of(least_arithmetic(config))
    # Where two neighbouring levels have the same width, a block needs no shortcut.
    shortcuts = calls.pop("conv2d") - least.pop("conv2d")
    assert shortcuts == calls.pop("conv2d_backward") - least.pop("conv2d_backward")
    assert shortcuts == calls.pop("prepare_gradient") - least.pop("prepare_gradient")
    assert 0 <= shortcuts <= 2
    for name in ("prepare_conv2d",):
        calls.pop(name), least.pop(name)
    assert calls == least


@pytest.mark.parametrize("preset", PRESETS)
def test_other_widths_and_sizes_are_networks(preset):
    config = PRESETS[preset]
    widths = [network.channels[0] for network in scaling._by_channels(config)]
    sizes = [network.image_size for network in scaling._by_size(config)]
    assert widths == sorted(set(widths))
    assert sizes == sorted(set(sizes))
    assert config.channels[0] in widths
    assert config.image_size in sizes
    assert min(len(widths), len(sizes)) >= 3


def points(*seconds):
    return [Point(2**k, 8, 8, s, 1.0, 0.5) for k, s in enumerate(seconds)]


@pytest.mark.parametrize(
    ("seconds", "images"),
    [
        ((1.0, 2.0, 4.0, 8.0), None),  # of one image less than half
        ((0.6, 0.8, 1.2, 2.0), 3.0),  # twice 0.5 is between 2 and 4 images
        ((0.6, 0.7, 0.8, 0.9), None),  # of eight still more
    ],
)
def test_the_point_at_which_overhead_is_half(seconds, images):
    found = half_point(points(*seconds), overhead=0.5)
    assert found == (None if images is None else pytest.approx(images))


def test_the_measurement(monkeypatch):
    """With a clock that knows what a shard takes: 3 s of calls and 2 s an image."""

    def seconds(config, images):
        return 3.0 if config == least_arithmetic(tiny()) else 3.0 + 2.0 * images

    monkeypatch.setattr(scaling, "shard_seconds", seconds)
    found = measure_scaling(tiny(), batch=4, shard=2)
    assert [p.images for p in found.batch] == [1, 2, 4]
    assert [p.per_image for p in found.batch] == [5.0, 3.5, 2.75]
    assert [p.overhead for p in found.batch] == [3 / 5, 3 / 7, 3 / 11]
    assert found.half == pytest.approx(1.5)
    work = 3 * forward_products(tiny()).total
    assert [p.flops for p in found.batch] == [n * work / (3 + 2 * n) for n in (1, 2, 4)]
    assert {p.images for p in found.channels + found.size} == {2}


def test_a_shard_is_its_forward_and_backward_in_the_fastest_round(monkeypatch):
    watch, sizes = Stopwatch(), []

    def conv2d(x, *args, **options):
        sizes.append(len(x))
        return reference.conv2d(x, *args, **options)

    def in_turns(contestants, **_options):
        (timed,) = contestants.values()
        timed(1)
        return {"": [3.0, 2.0, 5.0]}

    table = watch.on_table(replace(reference, conv2d=conv2d))
    monkeypatch.setattr(scaling, "kernels_for", lambda _device: table)
    monkeypatch.setattr(scaling, "in_turns", in_turns)
    assert scaling.shard_seconds(tiny(), 6) == 2.0
    assert set(sizes) == {6}
    assert watch.calls["conv2d"] == watch.calls["conv2d_backward"] == len(sizes)


def test_a_shard_takes_time():
    assert scaling.shard_seconds(tiny(), 1) > 0
