"""Dropout is a function of seed, step, sample and layer, and of nothing else."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from networks import images, narrow, random_network

from tinyddpm.nn.masks import DropoutMasks
from tinyddpm.nn.unet import UNet

T = np.array([3, 700, 10, 40])
LIKE = np.zeros((4, 8, 8, 16), np.float32)


def masks_for(samples, seed=1, step=2):
    return DropoutMasks(seed=seed, step=step, samples=np.asarray(samples))


def overlap(a, b):
    """How often two masks agree: for independent ones with rate ½, half of the time."""
    return np.mean(a == b)


@given(rate=st.floats(0.0, 0.99), seed=st.integers(0, 2**32 - 1))
def test_the_rate_is_the_rate(rate, seed):
    """n = 4096 draws: 7 standard deviations are exceeded once in 10¹¹."""
    keep = masks_for(range(4), seed=seed).keep(LIKE, rate, site=1)
    assert keep.dtype == bool
    assert keep.shape == LIKE.shape
    deviation = np.sqrt(rate * (1 - rate) / keep.size)
    assert abs(keep.mean() - (1 - rate)) <= 7 * deviation + 7 / keep.size


def test_a_mask_depends_on_seed_step_sample_and_site():
    """Agreement of 4096 fair bits has standard deviation 1/128: 0.55 is 6 of them away."""
    keep = masks_for(range(4)).keep(LIKE, 0.5, site=1)
    np.testing.assert_array_equal(keep, masks_for(range(4)).keep(LIKE, 0.5, site=1))
    others = [
        masks_for(range(4), seed=2).keep(LIKE, 0.5, site=1),
        masks_for(range(4), step=3).keep(LIKE, 0.5, site=1),
        masks_for(range(4, 8)).keep(LIKE, 0.5, site=1),
        masks_for(range(4)).keep(LIKE, 0.5, site=2),
        np.roll(keep, 1, axis=0),  # each image's mask is its own
    ]
    for other in others:
        assert 0.45 < overlap(keep, other) < 0.55


@given(split=st.integers(1, 3), rate=st.sampled_from([0.1, 0.5]), site=st.integers(1, 20))
def test_a_mask_does_not_depend_on_how_the_batch_is_cut(split, rate, site):
    samples = np.array([17, 4, 9, 100])
    whole = masks_for(samples).keep(LIKE, rate, site)
    parts = [
        masks_for(part).keep(LIKE[: len(part)], rate, site) for part in np.split(samples, [split])
    ]
    np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_every_block_has_a_site_of_its_own():
    network = UNet(narrow("cifar10", dropout=0.1))
    levels = [*network.down, *network.up]
    stages = [stage for level in levels for stage in level.stages] + network.middle
    sites = [stage.block.site for stage in stages]
    assert len(set(sites)) == len(sites) == 4 * 2 + 2 + 4 * 3


@pytest.mark.parametrize("name", ["cifar10", "cifar10-improved"])
def test_without_masks_nothing_is_dropped(name):
    network = random_network(narrow(name, dropout=0.3))
    never = UNet(narrow(name, dropout=0.0), values=network.parameters.value)
    x = images(network.config, 4)
    y, _ = network.forward(x, T)
    np.testing.assert_array_equal(y, never.forward(x, T)[0])
    np.testing.assert_array_equal(y, never.forward(x, T, masks=masks_for(range(4)))[0])
    dropped, _ = network.forward(x, T, masks=masks_for(range(4)))
    assert (dropped != y).mean() > 0.99


@pytest.mark.parametrize("name", ["cifar10", "cifar10-improved"])
def test_a_step_does_not_depend_on_how_the_batch_is_cut(name):
    network = random_network(narrow(name, dropout=0.3))
    x, samples = images(network.config, 4), np.array([6, 2, 30, 31])
    y, saved = network.forward(x, T, masks=masks_for(samples))
    dy = np.random.default_rng(1).standard_normal(y.shape)
    dx = network.backward(dy, saved)
    whole = network.parameters.grad.copy()

    network.parameters.grad[...] = 0
    for part in (slice(0, 1), slice(1, 4)):
        y_part, saved = network.forward(x[part], T[part], masks=masks_for(samples[part]))
        dx_part = network.backward(dy[part], saved)
        np.testing.assert_allclose(y_part, y[part], rtol=0, atol=1e-12 * np.abs(y).max())
        np.testing.assert_allclose(dx_part, dx[part], rtol=0, atol=1e-12 * np.abs(dx).max())
    np.testing.assert_allclose(
        network.parameters.grad, whole, rtol=0, atol=1e-12 * np.abs(whole).max()
    )


def test_dropout_stands_before_the_second_convolution_of_each_block():
    """The input of each conv2, as its backward keeps it, is zero just where the mask says so."""
    network = random_network(narrow("mnist", dropout=0.4))
    x, masks = images(network.config, 4), masks_for(range(4))
    _, saved = network.forward(x, T, masks=masks)
    _, undropped = network.forward(x, T)
    stages = [stage for level in network.down for stage in level.stages]
    kept = [stage_saved.block for level in saved.down for stage_saved in level.stages]
    for stage, block in zip(stages, kept, strict=True):
        keep = masks.keep(block.conv2.x, 0.4, stage.block.site)
        np.testing.assert_array_equal(block.conv2.x != 0, keep)
    first, whole = kept[0].conv2.x, undropped.down[0].stages[0].block.conv2.x
    np.testing.assert_allclose(first, np.where(first, whole / 0.6, 0), rtol=1e-12)
