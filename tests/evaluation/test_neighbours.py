"""Nearest training images against a search by the definition."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from montecarlo import mutated

from tinyddpm.evaluation import neighbours
from tinyddpm.evaluation.neighbours import nearest
from tinyddpm.parallel import Workers


def images(seed, count):
    random = np.random.default_rng(seed)
    return random.integers(0, 256, (count, 4, 3, 1), dtype=np.uint8)


def by_definition(queries, candidates):
    difference = queries[:, None].astype(float) - candidates[None].astype(float)
    return np.sqrt(np.square(difference / 255).sum(axis=(2, 3, 4)))


def search(module, queries, candidates, threads=1):
    with Workers(threads) as workers:
        return module.nearest(queries, candidates, workers)


@given(n=st.integers(1, 9), m=st.integers(1, 30), seed=st.integers(0, 99))
def test_it_is_the_definition(n, m, seed):
    queries, candidates = images(seed, n), images(seed + 100, m)
    distances = by_definition(queries, candidates)
    found = search(neighbours, queries, candidates)
    np.testing.assert_allclose(found.distance, distances.min(axis=1), rtol=1e-12)
    np.testing.assert_allclose(distances[np.arange(n), found.nearest], found.distance, rtol=1e-12)


def test_blocks_and_threads_do_not_matter(monkeypatch):
    queries, candidates = images(0, 23), images(1, 57)
    candidates[[2, 40]] = queries[0]  # of two that are as near, the first
    whole = search(neighbours, queries, candidates)
    assert whole.nearest[0] == 2
    monkeypatch.setattr(neighbours, "_QUERIES", 5)
    monkeypatch.setattr(neighbours, "_CANDIDATES", 8)
    for threads in (1, 2, 3):
        found = search(neighbours, queries, candidates, threads)
        np.testing.assert_array_equal(found.nearest, whole.nearest)
        np.testing.assert_array_equal(found.distance, whole.distance)


def test_a_copy_is_at_0():
    candidates = images(1, 40)
    queries = candidates[[7, 31]].copy()
    queries[1, 0, 0, 0] ^= 1
    found = search(neighbours, queries, candidates)
    np.testing.assert_array_equal(found.nearest, [7, 31])
    np.testing.assert_allclose(found.distance, [0, 1 / 255])


def test_what_the_squares_of_the_candidates_are_for():
    wrong = mutated(neighbours, "square - 2 * (", "-2 * (")
    queries, candidates = images(0, 9), images(1, 30)
    found, expected = search(wrong, queries, candidates), nearest
    with Workers(1) as workers:
        right = expected(queries, candidates, workers)
    assert not np.array_equal(found.nearest, right.nearest)
