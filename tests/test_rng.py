"""Philox4x32-10 against its published test vectors, and what the streams promise."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyddpm import rng

KNOWN = [  # counter, key, output: kat_vectors of the Random123 distribution
    ([0, 0, 0, 0], (0, 0), [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
    (
        [0xFFFFFFFF] * 4,
        (0xFFFFFFFF, 0xFFFFFFFF),
        [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD],
    ),
    (
        [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
        (0xA4093822, 0x299F31D0),
        [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
    ),
]


@pytest.mark.parametrize(("counter", "key", "expected"), KNOWN)
def test_published_vectors(counter, key, expected):
    assert rng.philox4x32(np.array(counter, np.uint32), key).tolist() == expected


@given(
    seed=st.integers(0, 2**32 - 1),
    step=st.integers(0, 10**6),
    n=st.integers(1, 9),
    cut=st.integers(0, 9),
    count=st.integers(1, 9),
)
def test_a_batch_in_two_parts_has_the_same_noise(seed, step, n, cut, count):
    cut = min(cut, n)
    whole = rng.normal(seed, "noise", step=step, samples=np.arange(n), shape=(count,))
    parts = [
        rng.normal(seed, "noise", step=step, samples=s, shape=(count,))
        for s in (np.arange(cut), np.arange(cut, n))
    ]
    np.testing.assert_array_equal(np.concatenate(parts), whole)
    longer = rng.words(seed, "noise", step=step, samples=np.arange(n), count=count + 5)
    shorter = rng.words(seed, "noise", step=step, samples=np.arange(n), count=count)
    np.testing.assert_array_equal(longer[:, :count], shorter)


def test_seeds_streams_steps_samples_and_sites_share_no_word():
    seen = []
    for seed, stream, step, site in [
        (0, "noise", 1, 0),
        (1, "noise", 1, 0),
        (0, "t", 1, 0),
        (0, "noise", 2, 0),
        (0, "noise", 1, 1),
    ]:
        drawn = rng.words(seed, stream, step=step, samples=np.arange(50), count=20, site=site)
        seen += drawn.ravel().tolist()
    assert len(set(seen)) >= len(seen) - 5  # 5000 words: 0.003 coincidences expected


@pytest.mark.parametrize(("stream", "number"), [("init", 0), ("t", 2), ("noise", 3), ("sample", 7)])
def test_words_are_philox_of_their_place(stream, number):
    """Another order of the counter, or number of a stream, would go on with other noise."""
    samples = np.array([5, 9])
    drawn = rng.words(11, stream, step=3, samples=samples, count=6, site=2)
    for sample, found in zip(samples, drawn, strict=True):
        counters = np.array([[0, sample, 3, 2], [1, sample, 3, 2]], np.uint32)
        expected = rng.philox4x32(counters, (11, number)).ravel()[:6]
        np.testing.assert_array_equal(found, expected)
    without_site = rng.words(11, stream, step=3, samples=samples, count=6)
    first_site = rng.words(11, stream, step=3, samples=samples, count=6, site=0)
    np.testing.assert_array_equal(without_site, first_site)


def test_uniforms_are_their_words():
    place = {"step": 3, "samples": np.array([5, 9]), "site": 2}
    words = rng.words(1, "dropout", count=6, **place)
    uniforms = rng.uniform(1, "dropout", shape=(2, 3), **place)
    np.testing.assert_array_equal(uniforms, (words.reshape(2, 2, 3) + 0.5) / 2.0**32)


@given(count=st.integers(1, 7), seed=st.integers(0, 2**32 - 1))
def test_normals_are_box_muller_of_their_words(count, seed):
    """Cosine first: a run goes on with the same noise on a GPU and in another version."""
    place = {"step": 3, "samples": np.array([5, 9])}
    drawn = rng.normal(seed, "noise", shape=(count,), dtype=np.float64, **place)
    u = (rng.words(seed, "noise", count=8, **place) + 0.5) / 2.0**32
    pairs = np.sqrt(-2 * np.log(u[:, ::2])) * np.exp(2j * np.pi * u[:, 1::2])
    expected = np.stack([pairs.real, pairs.imag], axis=-1).reshape(2, 8)
    np.testing.assert_allclose(drawn, expected[:, :count], rtol=0, atol=1e-14)


def test_normals_have_the_moments_of_a_normal():
    """With n = 400,000 each mean is within 5.5 standard errors: false alarm 2e-7 in all."""
    x = rng.normal(3, "noise", step=7, samples=np.arange(400), shape=(1000,), dtype=np.float64)
    n = x.size
    for power, expected, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):
        z = ((x**power).mean() - expected) / np.sqrt(variance / n)
        assert abs(z) < 5.5, power
    assert rng.normal(0, "noise", step=0, samples=np.arange(2), shape=(3,)).dtype == np.float32


def test_integers_cover_one_to_high_evenly():
    t = rng.integers(0, "t", step=1, samples=np.arange(100_000), high=10)
    counts = np.bincount(t, minlength=11)
    assert counts[0] == 0
    assert len(counts) == 11
    chi2 = ((counts[1:] - 10_000) ** 2 / 10_000).sum()
    assert chi2 < 50  # 9 degrees of freedom: p = 1e-7


@given(high=st.integers(1, 2**31), step=st.integers(0, 9))
def test_integers_are_the_upper_parts_of_their_words(high, step):
    place = {"step": step, "samples": np.arange(5)}
    words = rng.words(2, "t", count=1, **place).ravel().tolist()
    drawn = rng.integers(2, "t", high=high, **place)
    assert drawn.tolist() == [word * high // 2**32 + 1 for word in words]


@given(n=st.integers(1, 60), epoch=st.integers(0, 5))
def test_permutations_sort_the_words_of_their_epoch(n, epoch):
    order = rng.permutation(0, "order", epoch=epoch, n=n).tolist()
    keys = rng.words(0, "order", step=epoch, samples=np.arange(n), count=1).ravel()
    assert sorted(order) == list(range(n))
    assert order == sorted(range(n), key=lambda i: keys[i])


def test_epochs_differ():
    assert not np.array_equal(
        rng.permutation(0, "order", epoch=0, n=50), rng.permutation(0, "order", epoch=1, n=50)
    )


@pytest.mark.parametrize("seed", [-1, 2**32, 0.5, None, "0"], ids=repr)
def test_what_is_no_seed_is_refused(seed):
    with pytest.raises(ValueError, match="a seed is an integer in"):
        rng.words(seed, "sample", step=0, samples=np.arange(2), count=1)


@pytest.mark.parametrize("wrong", [-1, 2**32, 1.5], ids=repr)
@pytest.mark.parametrize("name", ["step", "site"])
def test_what_is_no_word_of_the_counter_is_refused(name, wrong):
    with pytest.raises(ValueError, match=f"a {name} is an integer in"):
        rng.words(
            0, "dropout", **({"step": 0, "samples": np.arange(2), "count": 1} | {name: wrong})
        )


@pytest.mark.parametrize("samples", [[-1], [-1, 5], [0, 2**32], [1.0, 1.5]], ids=repr)
def test_samples_that_would_repeat_others_are_refused(samples):
    with pytest.raises(ValueError, match="samples are integers in"):
        rng.words(0, "sample", step=0, samples=np.array(samples), count=1)


@pytest.mark.parametrize("stream", ["samples", 7, None], ids=repr)
def test_what_is_no_stream_is_refused(stream):
    with pytest.raises(ValueError, match="a stream is one of init, order, t, noise"):
        rng.normal(0, stream, step=0, samples=np.arange(2), shape=(1,))


def test_a_seed_of_numpy_is_one():
    draws = [
        rng.words(seed, "sample", step=0, samples=np.arange(2), count=5)
        for seed in (2**32 - 1, np.uint32(2**32 - 1), np.int64(2**32 - 1))
    ]
    np.testing.assert_array_equal(draws[1], draws[0])
    np.testing.assert_array_equal(draws[2], draws[0])
