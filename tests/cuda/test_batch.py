"""Batches made on the device are those that the host makes: the same integers, and the noise."""

import numpy as np
import pytest

from tinyddpm import rng
from tinyddpm.data.pixels import from_bytes
from tinyddpm.diffusion.gaussian import GaussianDiffusion
from tinyddpm.diffusion.guidance import drop_labels
from tinyddpm.diffusion.schedule import NoiseSchedule
from tinyddpm.kernels.cuda.batch import Batches, Labels, Noise
from tinyddpm.kernels.cuda.source import source
from tinyddpm.nn.masks import DropoutMasks

pytestmark = pytest.mark.cuda_sim

SEED, T = 2**32 - 5, 50
WORDS = """
extern "C" __global__ void words(unsigned* y, float* z, unsigned step, unsigned site, unsigned seed,
                                 unsigned stream) {
  int i = threadIdx.x;
  uint4 drawn = philox(i % 8, i / 8, step, site, seed, stream);
  float4 four = normals(drawn);
  y[4 * i] = drawn.x; y[4 * i + 1] = drawn.y; y[4 * i + 2] = drawn.z; y[4 * i + 3] = drawn.w;
  z[4 * i] = four.x; z[4 * i + 1] = four.y; z[4 * i + 2] = four.z; z[4 * i + 3] = four.w;
}
"""


@pytest.mark.parametrize(("seed", "step", "site"), [(0, 0, 3), (SEED, 2**31 + 7, 0)])
def test_philox_gives_the_integers_and_normals_of_the_host(card, seed, step, site):
    words = card.function_of(source("philox.cuh", {}) + WORDS, "words")
    y, z = card.empty((8, 32), np.uint32), card.empty((8, 32))
    card.launch(words, (1,), (64,), (y, z, step, site, seed, rng.STREAMS["noise"]))
    where = {"step": step, "samples": np.arange(8)}
    np.testing.assert_array_equal(y, rng.words(seed, "noise", count=32, site=site, **where))
    if site:
        return  # the host draws normals at site 0 alone
    expected = rng.normal(seed, "noise", shape=(32,), **where)
    np.testing.assert_allclose(z, expected, rtol=2**-23, atol=1e-12)


def made(card, images, batch, predict="eps", *, flips=False):
    schedule = NoiseSchedule.cosine(T)
    rates = np.sqrt(schedule.alpha_bar), np.sqrt(schedule.one_minus_alpha_bar)
    return Batches(card, images, batch, Noise(*rates, predict, flips=flips, seed=SEED))


def state_at(step):
    return np.array([step, 0], np.uint32)


@pytest.mark.parametrize("predict", ["eps", "x0", "v", "score"])
@pytest.mark.parametrize("shape", [(5, 6, 3), (4, 4, 1)])
def test_a_batch_is_that_of_the_host(card, predict, shape):
    """An odd number of values an image, an epoch shorter than the batch, and mirrored images."""
    images = np.random.default_rng(0).integers(0, 256, (7, *shape), np.uint8)
    batch, step, places = 9, 4, np.arange(9)
    batches = made(card, images, batch, predict, flips=True)
    orders = [rng.permutation(SEED, "order", epoch=epoch, n=7) for epoch in range(6)]
    for epoch in (3, 4, 5):
        assert not batches.holds(epoch)
        batches.take_order(epoch, orders[epoch])
        assert batches.holds(epoch)
    batches.draw(state_at(step))

    t = rng.integers(SEED, "t", step=step, samples=places, high=T)
    eps = rng.normal(SEED, "noise", step=step, samples=places, shape=shape)
    x0 = from_bytes(images[np.concatenate(orders)[3 * 9 : 4 * 9]])
    flipped = rng.words(SEED, "flip", step=step, samples=places, count=1)[:, 0] >> 31 == 1
    assert 0 < flipped.sum() < batch
    x0[flipped] = x0[flipped, :, ::-1]
    diffusion = GaussianDiffusion(NoiseSchedule.cosine(T), predict)
    target = diffusion.error_scale(t, x0) * diffusion.target(x0, eps, t)
    np.testing.assert_array_equal(batches.times, t)
    np.testing.assert_array_equal(batches.x0, x0)
    np.testing.assert_allclose(batches.xt, diffusion.q_sample(x0, t, eps), atol=1e-6)
    np.testing.assert_allclose(batches.target, target, atol=1e-6)


def test_places_of_long_runs_do_not_overflow(card):
    """Position 2³³ of the run: its image is that of the host's integers, which have no end."""
    images = np.arange(12, dtype=np.uint8).reshape(3, 2, 2, 1)
    batches, step = made(card, images, 2**12), 2**21 + 1
    first = (step - 1) * 2**12
    for epoch in range(first // 3, (first + 2**12) // 3 + 1):
        batches.take_order(epoch, rng.permutation(SEED, "order", epoch=epoch, n=3))
    batches.draw(state_at(step))
    positions = first + np.arange(2**12)
    orders = {e: rng.permutation(SEED, "order", epoch=e, n=3) for e in set(positions // 3)}
    indices = np.array([orders[p // 3][p % 3] for p in positions])
    np.testing.assert_array_equal(batches.x0, from_bytes(images[indices]))


def test_labels_are_those_of_the_host(card):
    images = np.zeros((5, 2, 2, 1), np.uint8)
    labels = np.arange(5, dtype=np.uint8)
    schedule = NoiseSchedule.cosine(T)
    rates = np.sqrt(schedule.alpha_bar), np.sqrt(schedule.one_minus_alpha_bar)
    noise = Noise(*rates, "eps", flips=False, seed=SEED)
    batches = Batches(card, images, 300, noise, Labels(labels, null_label=9, dropped=0.3))
    for epoch in range(300 // 5):
        batches.take_order(epoch, rng.permutation(SEED, "order", epoch=epoch, n=5))
    batches.draw(state_at(1))
    order = [rng.permutation(SEED, "order", epoch=epoch, n=5) for epoch in range(300 // 5)]
    u = rng.uniform(SEED, "labels", step=1, samples=np.arange(300), shape=())
    expected = drop_labels(np.concatenate(order), u, null_label=9, probability=0.3)
    assert 0 < (expected == 9).sum() < 300
    np.testing.assert_array_equal(batches.told, expected)


def test_masks_are_those_of_the_host(card):
    masks = made(card, np.zeros((1, 2, 2, 1), np.uint8), 3).masks(state_at(12))
    for side, site, rate in ((5, 1, 0.1), (4, 7, 0.5)):  # 75 and 48 values an image
        like = np.empty((3, side, side, 3), np.float32)
        expected = DropoutMasks(SEED, 12, np.arange(3)).keep(like, rate, site)
        kept = masks.keep(like, rate, site)
        assert kept.dtype == np.bool_
        np.testing.assert_array_equal(kept, expected)
