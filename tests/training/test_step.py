"""A training step against algorithm 1 written out: the whole batch at once, in float64."""

import copy
import math
from dataclasses import replace

import numpy as np
import pytest

from tinyddpm import rng
from tinyddpm.data.glyphs import glyphs
from tinyddpm.errors import NonFiniteError
from tinyddpm.nn.config import UNetConfig
from tinyddpm.nn.masks import DropoutMasks
from tinyddpm.nn.unet import UNet
from tinyddpm.ops.kernels import reference
from tinyddpm.parallel import Workers
from tinyddpm.training.config import DiffusionConfig, RunConfig
from tinyddpm.training.step import Trainer, by_quartile, check_finite

DATASET = glyphs(n=23)
CONFIG = RunConfig(
    data="glyphs",
    preset="tiny",
    seed=3,
    class_names=tuple("0123456789"),
    label_dropout=0.5,
    network=UNetConfig(
        image_size=16,
        channels=(4, 8),
        attention_at=(8,),
        groups=2,
        dropout=0.2,
        classes=10,
        out_channels=2,
    ),
    diffusion=DiffusionConfig(T=3, variance="learned", vlb_weight=0.1, times="second-moment"),
    batch=9,
    shard=2,
    train_steps=3,
    lr=1e-2,
    warmup=2,
    decay_from=2,
    grad_clip=0.5,
    ema_decay=0.3,
    flips=True,
)
RATES = {1: 0.5e-2, 2: 1e-2, 3: 1e-2 * math.sqrt(2 / 3)}
DECAYS = {1: 2 / 11, 2: 3 / 12, 3: 0.3}


def warmed(config, workers):
    """A trainer with no parameter at zero, to which the times are not equally likely."""
    trainer = Trainer(config, DATASET, workers, reference)
    random = np.random.default_rng(0)
    trainer.network.parameters.value += 0.1 * random.standard_normal(trainer.ema.shape)
    for t in (1, 2, 3):
        trainer.times.update(np.full(10, t), np.full(10, float(t)))
    return trainer


def written_out(trainer, step):
    """The times and losses of the images of ``step``, its loss and its gradient."""
    config, places = trainer.config, np.arange(9)
    seed, chain = config.seed, config.diffusion
    drawn = {"step": step, "samples": places}
    order = [rng.permutation(seed, "order", epoch=epoch, n=23) for epoch in (0, 1)]
    chosen = np.concatenate(order)[9 * (step - 1) + places]
    x0 = DATASET.images[chosen] / 127.5 - 1
    mirrored = rng.words(seed, "flip", count=1, **drawn)[:, 0] >= 2**31
    x0 = np.stack([np.fliplr(x) if flip else x for x, flip in zip(x0, mirrored, strict=True)])
    none = rng.uniform(seed, "labels", shape=(), **drawn) < 0.5
    eps = rng.normal(seed, "noise", shape=x0.shape[1:], dtype=np.float64, **drawn)
    t, weights = trainer.times.draw(seed, **drawn)
    diffusion = chain.build()
    xt = diffusion.q_sample(x0, t, eps)
    values = trainer.network.parameters.value.astype(np.float64)
    network = UNet(config.network, dtype=np.float64, values=values)
    labels = np.where(none, 10, DATASET.labels[chosen])
    output, saved = network.forward(xt, t - 1, labels=labels, masks=DropoutMasks(seed, **drawn))
    aim = {"objective": chain.objective, "vlb_weight": chain.vlb_weight}
    losses, _ = diffusion.image_losses(output, x0, xt, eps, t, **aim)
    loss, doutput = diffusion.loss(output, x0, xt, eps, t, weights=weights, **aim)
    network.backward(doutput, saved)
    return t, losses, float(loss), network.parameters.grad


@pytest.mark.parametrize("objective", ["hybrid", "vlb"])
def test_steps_are_algorithm_1_written_out(objective):
    config = replace(CONFIG, diffusion=replace(CONFIG.diffusion, objective=objective))
    with Workers(1) as workers:
        trainer = warmed(config, workers)
        for step in (1, 2, 3):
            t, losses, loss, grad = written_out(trainer, step)
            norm = np.linalg.norm(grad)
            grad *= 0.5 / norm
            assert norm > 0.5, "nothing would be clipped"
            value, times = trainer.network.parameters.value.copy(), copy.deepcopy(trainer.times)
            m, v = 0.9 * trainer.adam_m + 0.1 * grad, 0.999 * trainer.adam_v + 0.001 * grad**2
            ema = trainer.ema.copy()
            report = trainer.step(step)
            assert report.loss == pytest.approx(loss, rel=1e-4)
            assert report.grad_norm == pytest.approx(norm, rel=1e-4)
            assert report.lr == pytest.approx(RATES[step])
            np.testing.assert_allclose(trainer.adam_m, m, atol=1e-4 * np.abs(m).max())
            np.testing.assert_allclose(trainer.adam_v, v, atol=1e-4 * v.max())
            root = np.sqrt(trainer.adam_v / (1 - 0.999**step)) + 1e-8
            value -= RATES[step] * trainer.adam_m / (1 - 0.9**step) / root
            found = trainer.network.parameters.value
            np.testing.assert_allclose(found, value, atol=1e-6)
            ema = DECAYS[step] * ema + (1 - DECAYS[step]) * found
            np.testing.assert_allclose(trainer.ema, ema, atol=1e-6)
            times.update(t, losses)
            np.testing.assert_array_equal(trainer.times.counts, times.counts)
            np.testing.assert_allclose(trainer.times.history, times.history, rtol=1e-3)


def test_a_step_whose_loss_is_not_finite_updates_nothing():
    with Workers(1) as workers:
        trainer = warmed(CONFIG, workers)
        trainer.network.parameters.value[...] = np.nan
        before = copy.deepcopy([trainer.ema, trainer.times.history, trainer.times.counts])
        with pytest.raises(NonFiniteError, match="step 1"):
            trainer.step(1)
        after = [trainer.ema, trainer.times.history, trainer.times.counts]
        for was, found in zip(before, after, strict=True):
            np.testing.assert_array_equal(found, was)
        assert not trainer.adam_m.any()
        assert not trainer.adam_v.any()


def test_the_losses_are_told_by_the_quarter_of_their_times():
    assert by_quartile(np.array([1.0, 2.0, 4.0]), np.array([1, 2, 3]), T=3) == [1.0, 2.0, 4.0, None]
    losses = np.array([1.0, 2.0, 4.0, 8.0, 16.0, 32.0])
    assert by_quartile(losses, np.array([1, 2, 3, 5, 6, 6]), T=8) == [1.5, 4.0, 56 / 3, None]
    assert by_quartile(losses, np.array([8, 7, 6, 8, 8, 7]), T=8) == [None, None, 4.0, 11.8]


def test_what_is_not_finite_is_told_with_its_times():
    check_finite(7, 1.0, 2.0, np.empty(0, np.int64))
    with pytest.raises(NonFiniteError, match=r"loss nan.*2\.0 \(images at t = \[4, 2\]\)"):
        check_finite(7, math.nan, 2.0, np.array([4, 2]))
    with pytest.raises(NonFiniteError, match=r"gradient norm inf\n"):
        check_finite(7, 1.0, math.inf, np.empty(0, np.int64))
