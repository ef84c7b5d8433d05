"""Strata: they make up 1 … T, and each of their times is as likely as the others."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyddpm import errors, rng
from tinyddpm.evaluation.strata import Strata


@given(st.integers(1, 3000), st.integers(1, 40))
def test_strata_follow_each_other_from_1_to_T(T, draws):
    strata = Strata.cut(T, draws)
    assert strata.first[0] == 1
    np.testing.assert_array_equal(strata.first[1:], (strata.first + strata.length)[:-1])
    assert strata.first[-1] + strata.length[-1] - 1 == T
    assert strata.length.min() == strata.length[0] == strata.length[-1] == 1
    assert len(strata.length) == min(draws + 2, T)


@pytest.mark.parametrize("T", [1, 2, 3, 50])
def test_enough_draws_are_all_times(T):
    strata = Strata.cut(T, 50)
    np.testing.assert_array_equal(strata.first, np.arange(1, T + 1))
    np.testing.assert_array_equal(strata.draw(0, np.arange(3)), [strata.first] * 3)


def test_lengths_grow_geometrically():
    length = Strata.cut(1000, 16).length[1:-1]
    assert (np.diff(length) >= 0).all()
    np.testing.assert_allclose(length[9:] / length[8:-1], (1000 / 2) ** (1 / 16), rtol=0.01)


@given(st.integers(3, 200), st.integers(1, 9), st.data())
def test_an_even_number_gives_each_time_of_a_stratum_equally_often(T, draws, data):
    strata = Strata.cut(T, draws)
    j = data.draw(st.integers(0, len(strata.length) - 1))
    n = strata.length[j]

    def even(*_, samples, shape, **__):
        return np.broadcast_to(((samples + 0.5) / len(samples))[:, None], (len(samples), *shape))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rng, "uniform", even)
        drawn = strata.draw(0, np.arange(3 * n))[:, j]
    np.testing.assert_array_equal(np.unique(drawn), strata.first[j] + np.arange(n))
    assert (np.bincount(drawn)[strata.first[j] :] == 3).all()


def test_times_depend_on_seed_and_image_alone():
    strata = Strata.cut(1000, 16)
    whole = strata.draw(3, np.arange(50))
    np.testing.assert_array_equal(strata.draw(3, np.arange(20, 30)), whole[20:30])
    assert len(np.unique(whole, axis=0)) == 50
    assert not np.array_equal(strata.draw(4, np.arange(50)), whole)


def test_no_draws_are_refused():
    with pytest.raises(errors.UsageError, match="at least 1"):
        Strata.cut(10, 0)
