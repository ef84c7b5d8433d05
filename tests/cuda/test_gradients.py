"""Gradients are added up and gathered where they belong, and so are their squares."""

import numpy as np
import pytest
from conv_twins import integers

from tinyddpm.kernels.cuda import gradients, partial_sums
from tinyddpm.kernels.cuda.gradients import Gradients
from tinyddpm.kernels.cuda.partial_sums import AtTheEnd, InParts

pytestmark = pytest.mark.cuda_sim

# Values and parts of each gradient, up to so many that warps share them and have none.
SIZES = [1, 4095, 3, 1, 9000, 2, 257]
PARTS = [1, 3, 17, 150, 1, 16, 20]


def made():
    """Sums of them are exact, in whatever order."""
    return [integers(i, PARTS[i], SIZES[i]) for i in range(len(SIZES))]


@pytest.fixture
def found():
    return made()


def gathered(sim, found):
    table, grad = Gradients(sim, SIZES), sim.empty((sum(SIZES),))
    table.gather([InParts(parts) for parts in found], grad)
    return grad, table


def test_every_gradient_is_added_up_and_comes_to_its_place(sim, found):
    grad, table = gathered(sim, found)
    expected = np.concatenate([parts.sum(axis=0) for parts in found])
    np.testing.assert_array_equal(grad, expected)
    squares = np.square(expected.astype(float)).sum()
    assert table.partial_squares.sum() == pytest.approx(squares, rel=1e-6)


def test_a_whole_gradient_is_copied(sim, found):
    table, grad = Gradients(sim, SIZES), sim.empty((sum(SIZES),))
    table.gather([parts[0] for parts in found], grad)
    np.testing.assert_array_equal(grad, np.concatenate([parts[0] for parts in found]))


def test_the_order_of_threads_and_the_place_of_arrays_change_no_bit(sim, found):
    found = [parts / 7 for parts in found]
    first_grad, first = gathered(sim, found)
    for sim.seed in (1, 2):
        grad, other = gathered(sim, [parts.copy() for parts in found])
        np.testing.assert_array_equal(grad, first_grad)
        np.testing.assert_array_equal(other.partial_squares, first.partial_squares)


def test_fewer_blocks_than_items(sim, found, monkeypatch):
    monkeypatch.setattr(gradients, "_BLOCKS", 2)
    grad, table = gathered(sim, found)
    assert len(table.partial_squares) == 2
    np.testing.assert_array_equal(grad, np.concatenate([parts.sum(axis=0) for parts in found]))


def test_one_of_each_parameter_is_expected(sim, found):
    table, grad = Gradients(sim, SIZES), sim.empty((sum(SIZES),))
    whole = [parts[0] for parts in found]
    for some in (whole[:-1], [*whole, whole[0]]):
        with pytest.raises(ValueError, match=rf"7 gradients were expected: got {len(some)}"):
            table.gather(some, grad)


@pytest.mark.parametrize(
    "wrong", [np.ones(256, "f"), np.ones(257), InParts(np.ones((3, 258), "f"))], ids=str
)
def test_a_gradient_of_another_size_or_type_is_refused(sim, found, wrong):
    table, grad = Gradients(sim, SIZES), sim.empty((sum(SIZES),))
    with pytest.raises(ValueError, match="must be 257 float32 in a row"):
        table.gather([*(parts[0] for parts in found[:-1]), wrong], grad)


def test_gradients_that_are_not_contiguous(sim, found):
    table, grad = Gradients(sim, SIZES), sim.empty((sum(SIZES),))
    table.gather([parts[0, ::-1] for parts in found], grad)
    np.testing.assert_array_equal(grad, np.concatenate([parts[0, ::-1] for parts in found]))


@pytest.mark.parametrize("parts", [2, 40])
def test_a_sum_of_several_gradients_is_taken_apart_unsummed(sim, parts):
    both = integers(0, parts, 2, 33)
    table, grad = Gradients(sim, [33, 33]), sim.empty((66,))
    summands = InParts(both)
    table.gather([summands[1], summands[0]], grad)
    np.testing.assert_array_equal(grad.reshape(2, 33), both.sum(axis=0)[::-1])


def test_what_is_large_does_not_wait(sim, monkeypatch):
    partial = integers(0, 5, 4, 9)
    waiting = AtTheEnd(sim).sum_up(partial)
    assert isinstance(waiting, InParts)
    assert waiting.parts is partial
    monkeypatch.setattr(partial_sums, "_WAITING", partial.nbytes - 1)
    np.testing.assert_array_equal(AtTheEnd(sim).sum_up(partial), partial.sum(axis=0))
