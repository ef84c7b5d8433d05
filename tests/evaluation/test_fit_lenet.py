"""Fitting the classifier: a function of recipe and data, and one that learns."""

from dataclasses import replace

import numpy as np
import pytest
from fake_mnist import bars
from hypothesis import given
from hypothesis import strategies as st

from tinyddpm.evaluation import fit_lenet
from tinyddpm.evaluation.classifier import accuracy
from tinyddpm.evaluation.fit_lenet import Recipe, fit, shifted

DIGITS = bars(420)
SHORT = Recipe(epochs=2, batch=100)  # shards of 32, 32, 32 and 4


def values(recipe, threads=1):
    return fit(DIGITS, recipe, threads=threads).parameters.value


def test_it_learns():
    losses = []
    recipe = Recipe(epochs=10, batch=60, shift=1)
    network = fit(DIGITS, recipe, threads=1, progress=losses.append)
    assert len(losses) == recipe.steps(len(DIGITS.images)) == 70
    assert losses[0] == pytest.approx(np.log(10), abs=0.1)
    assert accuracy(network, bars(200, seed=1)) > 0.95


def test_threads_change_no_bit_and_the_seed_does():
    one = values(SHORT)
    for threads in (2, 3):
        np.testing.assert_array_equal(values(SHORT, threads), one)
    assert not np.array_equal(values(replace(SHORT, seed=1)), one)


def test_the_learning_rate_falls_to_0(monkeypatch):
    rates = []
    monkeypatch.setattr(fit_lenet, "adam", lambda *_, lr, **__: rates.append(lr))
    values(SHORT)
    np.testing.assert_allclose(rates, 2e-3 * (1 - np.arange(8) / 8))


def test_the_gradient_is_that_of_the_whole_batch(monkeypatch):
    """Shards of unequal size have weights in proportion to it."""
    found = []
    monkeypatch.setattr(fit_lenet, "adam", lambda _, grad, *__, **___: found.append(grad.copy()))
    values(replace(SHORT, epochs=1))
    monkeypatch.setattr(fit_lenet, "SHARD", 100)
    values(replace(SHORT, epochs=1))
    in_shards, whole = found[: len(found) // 2], found[len(found) // 2 :]
    for one, other in zip(in_shards, whole, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5 * np.abs(other).max())


def test_each_epoch_has_an_order_and_shifts_of_its_own(monkeypatch):
    asked = []

    def spied(images, _recipe, *, epoch, samples):
        np.testing.assert_array_equal(images, DIGITS.images[samples])
        asked.append((epoch, samples))
        return images

    monkeypatch.setattr(fit_lenet, "shifted", spied)
    values(SHORT)
    assert [epoch for epoch, _ in asked] == [0] * 4 + [1] * 4
    first, second = (
        np.concatenate([numbers for _, numbers in part]) for part in (asked[:4], asked[4:])
    )
    assert len(set(first)) == len(set(second)) == 400
    assert not np.array_equal(first, second)


def test_what_is_left_over_of_an_epoch_is_no_step():
    assert Recipe(epochs=3, batch=100).steps(450) == 12


def test_fewer_images_than_a_batch_are_a_batch():
    few = bars(30)
    assert Recipe(epochs=3).steps(30) == 3
    losses = []
    fit(few, Recipe(epochs=3), threads=1, progress=losses.append)
    assert len(losses) == 3


@given(reach=st.integers(0, 3), epoch=st.integers(0, 5), seed=st.integers(0, 9))
def test_a_shift_moves_an_image_as_its_number_says(reach, epoch, seed):
    image = np.zeros((1, 28, 28, 1), np.uint8)
    image[0, 10:13, 14:16] = 200
    recipe = Recipe(shift=reach, seed=seed)
    many = image.repeat(400, axis=0)
    moved = shifted(many, recipe, epoch=epoch, samples=np.arange(400))
    rows, columns = (moved[..., 0].max(axis=axis).argmax(axis=1) for axis in (2, 1))
    assert (moved.sum(axis=(1, 2, 3)) == image.sum()).all()
    assert set(rows - 10) == set(columns - 14) == set(range(-reach, reach + 1))
    alone = shifted(image, recipe, epoch=epoch, samples=np.array([17]))
    np.testing.assert_array_equal(alone[0], moved[17])
    if reach:
        another = shifted(many, recipe, epoch=epoch + 1, samples=np.arange(400))
        assert not np.array_equal(another, moved)


def test_what_is_moved_in_is_black():
    white = np.full((200, 28, 28, 1), 255, np.uint8)
    moved = shifted(white, Recipe(shift=2), epoch=0, samples=np.arange(200))
    assert set(np.unique(moved)) == {0, 255}
    corner = (moved[:, 0, 0, 0] == 0).mean()  # black unless moved neither down nor right: 16/25
    assert corner == pytest.approx(16 / 25, abs=0.2)
