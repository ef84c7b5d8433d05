"""The loss on the device is that of ``diffusion.losses``, far from the data too."""

import numpy as np
import pytest

from tinyddpm.data.pixels import from_bytes
from tinyddpm.kernels.cuda.batch import Batches, Noise
from tinyddpm.kernels.cuda.loss import ROWS, Losses
from tinyddpm.training.config import DiffusionConfig
from tinyddpm.training.device_tables import loss_table

pytestmark = pytest.mark.cuda_sim

KINDS = [
    ("beta", "simple"),
    ("learned", "hybrid"),
    ("beta", "vlb"),
    ("beta_tilde", "vlb"),
    ("learned", "vlb"),
]
TIMES = np.array([1, 4, 2, 1, 3], np.int32)


def drawn(card, diffusion, seed):
    """A batch on the device, every byte in it, and black and white in plenty."""
    random = np.random.default_rng(seed)
    levels = np.concatenate([np.arange(256), np.repeat([0, 255], 44)]).astype(np.uint8)
    x0 = from_bytes(random.permuted(np.tile(levels, (5, 1)), axis=1)[:, :300].reshape(5, 10, 10, 3))
    eps = random.standard_normal(x0.shape).astype(np.float32)
    schedule = diffusion.schedule
    rates = np.sqrt(schedule.alpha_bar), np.sqrt(schedule.one_minus_alpha_bar)
    noise = Noise(*rates, diffusion.predict, flips=False, seed=0)
    batches = Batches(card, np.zeros(x0.shape, np.uint8), 5, noise)
    batches.times[...], batches.x0[...] = TIMES, x0
    batches.xt[...] = diffusion.q_sample(x0, TIMES, eps)
    target = diffusion.target(x0, eps, TIMES)
    batches.target[...] = diffusion.error_scale(TIMES, x0) * target
    return batches, eps


@pytest.mark.parametrize("size", [1.0, 30.0], ids=["near", "far"])
@pytest.mark.parametrize(("variance", "objective"), KINDS)
@pytest.mark.parametrize("predict", ["eps", "x0", "v", "score"])
def test_losses_and_their_gradient_are_those_of_the_host(card, predict, variance, objective, size):
    config = DiffusionConfig(
        T=5, schedule="cosine", predict=predict, variance=variance, objective=objective
    )
    diffusion = config.build()
    batches, eps = drawn(card, diffusion, seed=1)
    outputs = 6 if variance == "learned" else 3
    random = np.random.default_rng(2)
    output = (size * random.standard_normal((5, 10, 10, outputs))).astype(np.float32)
    output[..., 3:] /= size
    losses = Losses(card, loss_table(config, 300), 5)
    weights = np.array([0.5, 3, 1, 0.1, 2], np.float32) if size == 1 else None
    doutput = losses.gradient(output, batches, np.array([ROWS + 7, 0], np.uint32), weights)

    options = {"objective": objective, "vlb_weight": config.vlb_weight}
    expected, saved = diffusion.image_losses(output, batches.x0, batches.xt, eps, TIMES, **options)
    dlosses = np.full(5, 0.2, np.float32) * (1 if weights is None else weights)
    dexpected = diffusion.image_losses_backward(dlosses, saved)
    np.testing.assert_allclose(losses.rows[7], expected, rtol=3e-6)
    assert not losses.rows[:7].any()
    for mine, theirs in zip(doutput, dexpected, strict=True):  # image by image: scales differ
        np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=3e-6 * np.abs(theirs).max())


def test_the_losses_of_a_step_that_failed_stay(card):
    """Its batch may be another when it is done once more."""
    config = DiffusionConfig(T=5)
    batches, _ = drawn(card, config.build(), seed=1)
    losses, output = Losses(card, loss_table(config, 300), 5), np.ones((5, 10, 10, 3), np.float32)
    losses.gradient(output, batches, np.array([3, 0], np.uint32))
    found = losses.rows.copy()
    assert found[3].all()
    losses.gradient(2 * output, batches, np.array([3, 3], np.uint32))
    np.testing.assert_array_equal(losses.rows, found)
