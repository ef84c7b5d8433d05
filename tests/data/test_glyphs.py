"""The built-in digits: the same everywhere, varied, legible."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinyddpm.data.dataset import Dataset
from tinyddpm.data.glyphs import glyphs

GOLDEN = "3325bd441d7c3639b14429564719b902679cd1dae2e1dea39aeca745dde900af"


@pytest.fixture(scope="module")
def train() -> Dataset:
    return glyphs(4000)


@pytest.fixture(scope="module")
def test_split() -> Dataset:
    return glyphs(500, split="test")


def flat(data: Dataset) -> np.ndarray:
    return data.images.reshape(len(data.images), -1).astype(np.float32)


def test_the_bytes_are_the_same_on_every_machine(train: Dataset) -> None:
    assert train.fingerprint == GOLDEN


def test_shapes_labels_and_range(train: Dataset) -> None:
    assert train.images.shape == (4000, 16, 16, 1)
    assert train.labels is not None
    np.testing.assert_array_equal(train.labels, np.arange(4000) % 10)
    assert train.images.min() == 0
    assert train.images.max() == 255
    assert 20 < train.images.mean() < 60  # white on black, about as much ink as MNIST's 33
    assert (train.images[:, 0, 0] == 0).all()


@given(n=st.integers(1, 40), more=st.integers(0, 700), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=20)
def test_an_image_depends_on_seed_split_and_index_alone(n: int, more: int, seed: int) -> None:
    few, many = glyphs(n, seed), glyphs(n + more, seed)
    np.testing.assert_array_equal(few.images, many.images[:n])


def test_seeds_and_splits_differ(train: Dataset, test_split: Dataset) -> None:
    other = glyphs(500, seed=1)
    assert not (train.images[:500] == other.images).all(axis=(1, 2, 3)).any()
    seen = {image.tobytes() for image in train.images}
    assert len(seen) == len(train.images)
    assert not seen & {image.tobytes() for image in test_split.images}


def test_the_digits_can_be_told_apart(train: Dataset, test_split: Dataset) -> None:
    """The nearest of the training images, in squared difference, shows the same digit."""
    a, b = flat(test_split), flat(train)
    distance = (b * b).sum(axis=1) - 2 * a @ b.T
    assert train.labels is not None
    assert test_split.labels is not None
    right = train.labels[distance.argmin(axis=1)] == test_split.labels
    assert right.mean() > 0.99


def test_strokes_are_drawn_at_their_distance() -> None:
    """A digit against a slow, direct rendering of the docstring's equations in float64."""
    from tinyddpm.data import glyphs as module  # noqa: PLC0415

    segments = module._SEGMENTS[5]
    pose = module._Pose(*(np.array([[v]]) for v in (8.0, 11.0, 0.2, 0.05, 8.3, 7.9, 0.8)))
    drawn = module._draw(segments, pose)[0]

    theta = 2 * np.arctan(0.05)
    turn = np.array([[np.cos(theta), -np.sin(theta)], [np.sin(theta), np.cos(theta)]])
    shape = np.array([[8.0, -0.2 * 11.0], [0.0, 11.0]])
    placed = (segments - 0.5) @ (turn @ shape).T + np.array([8.3, 7.9])
    for i in range(16):
        for j in range(16):
            p = np.array([j + 0.5, i + 0.5])
            along = np.linspace(placed[:, 0], placed[:, 1], 200)  # (200, K, 2)
            distance = np.sqrt(((along - p) ** 2).sum(axis=-1)).min()
            assert abs(float(drawn[i, j]) - 255 * np.clip(1.3 - distance, 0, 1)) < 1.5


@pytest.mark.parametrize("n", [0, -1, 2**31 + 1])
def test_a_count_out_of_range_is_refused(n: int) -> None:
    with pytest.raises(ValueError, match=r"\[1, 2\^31\]"):
        glyphs(n)
