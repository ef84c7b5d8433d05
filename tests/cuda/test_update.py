"""The update on the device is that of ``optim``, and stops at what is not finite."""

import numpy as np
import pytest

from tinyddpm import optim
from tinyddpm.kernels.cuda.loss import ROWS
from tinyddpm.kernels.cuda.update import Buffers, Recipe, Updates

pytestmark = pytest.mark.cuda_sim

COUNT, BATCH = 1003, 5
RECIPE = Recipe(lr=1e-2, warmup=4, decay_from=6, grad_clip=1.0, ema_decay=0.9)


def buffers(card, seed=0):
    random = np.random.default_rng(seed)
    made = Buffers(*(card.empty((COUNT,)) for _ in range(5)))
    for array in made:
        array[...] = random.standard_normal(COUNT)
    made.m[...] *= 0.01
    made.v[...] = np.square(made.v) * 0.01
    return made


def squares(grad):
    return np.array([np.sum(part.astype(float) ** 2) for part in np.split(grad, [100, 700])], "f")


@pytest.mark.parametrize("length", [3.0, 0.01], ids=["clipped", "short enough"])
@pytest.mark.parametrize("step", [1, 2, 7, 100_000])
def test_an_update_is_that_of_optim(card, step, length):
    mine = buffers(card)
    mine.grad[...] *= length / np.linalg.norm(mine.grad)
    value, grad, m, v, ema = (array.copy() for array in mine)
    updates = Updates(card, mine, card.zeros((ROWS, BATCH)), RECIPE)
    updates.begin_at(step)
    updates.apply(squares(mine.grad))

    norm = optim.global_norm(grad)
    optim.clip_by_norm(grad, norm, RECIPE.grad_clip)
    lr = optim.learning_rate(step, RECIPE.lr, RECIPE.warmup, RECIPE.decay_from)
    optim.adam(value, grad, m, v, step=step, lr=lr)
    optim.ema(ema, value, optim.ema_decay(step, RECIPE.ema_decay))
    for array, expected in ((mine.m, m), (mine.v, v)):
        np.testing.assert_allclose(array, expected, rtol=2e-6, atol=1e-8)
    for array, expected in ((mine.value, value), (mine.ema, ema)):  # differences, fused on a card
        np.testing.assert_allclose(array, expected, rtol=2e-6, atol=2e-7)
    np.testing.assert_allclose(updates.norms[step % ROWS], norm, rtol=1e-6)
    np.testing.assert_array_equal(updates.state, [step + 1, 0])


@pytest.mark.parametrize("what", ["loss", "gradient"])
def test_what_is_not_finite_stops_all_later_updates(card, what):
    mine = buffers(card)
    updates = Updates(card, mine, card.zeros((ROWS, BATCH)), RECIPE)
    updates.begin_at(6)
    before = [array.copy() for array in (mine.value, mine.m, mine.v, mine.ema)]
    if what == "loss":
        updates._losses[6, 2] = np.inf
    else:
        mine.grad[1000] = np.nan
    updates.apply(squares(mine.grad))
    updates._losses[...] = 0
    mine.grad[...] = 1
    updates.apply(squares(mine.grad))
    for array, expected in zip((mine.value, mine.m, mine.v, mine.ema), before, strict=True):
        np.testing.assert_array_equal(array, expected)
    np.testing.assert_array_equal(updates.state, [6, 6])
