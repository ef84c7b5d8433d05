"""Gradients are gathered where they belong, and so are their squares."""

import numpy as np
import pytest

from tinyddpm.kernels.cuda import gradients
from tinyddpm.kernels.cuda.gradients import Gradients

pytestmark = pytest.mark.cuda_sim

SIZES = [1, 4095, 3, 1, 9000, 2, 257]


@pytest.fixture
def parts():
    random = np.random.default_rng(0)
    return [random.standard_normal(size).astype(np.float32) for size in SIZES]


def gathered(sim, parts):
    table, grad = Gradients(sim, SIZES), sim.empty((sum(SIZES),))
    table.gather(parts, grad)
    return grad, table


def test_every_gradient_comes_to_its_place(sim, parts):
    grad, table = gathered(sim, parts)
    np.testing.assert_array_equal(grad, np.concatenate(parts))
    squares = np.square(np.concatenate(parts).astype(float)).sum()
    assert table.partial_squares.sum() == pytest.approx(squares, rel=1e-6)


def test_the_order_of_threads_and_the_place_of_arrays_change_no_bit(sim, parts):
    _, first = gathered(sim, parts)
    for sim.seed in (1, 2):
        _, other = gathered(sim, [part.copy() for part in parts])
        np.testing.assert_array_equal(other.partial_squares, first.partial_squares)


def test_fewer_blocks_than_chunks(sim, parts, monkeypatch):
    monkeypatch.setattr(gradients, "_BLOCKS", 2)
    grad, table = gathered(sim, parts)
    assert len(table.partial_squares) == 2
    np.testing.assert_array_equal(grad, np.concatenate(parts))


def test_one_of_each_parameter_is_expected(sim, parts):
    table, grad = Gradients(sim, SIZES), sim.empty((sum(SIZES),))
    for found in (parts[:-1], [*parts, parts[0]]):
        with pytest.raises(ValueError, match=rf"7 gradients were expected: got {len(found)}"):
            table.gather(found, grad)


def test_gradients_that_are_not_contiguous(sim, parts):
    table, grad = Gradients(sim, SIZES), sim.empty((sum(SIZES),))
    table.gather([part[::-1] for part in parts], grad)
    np.testing.assert_array_equal(grad, np.concatenate([part[::-1] for part in parts]))
