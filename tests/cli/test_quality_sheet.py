"""The contact sheet shows what it says."""

from types import SimpleNamespace

import numpy as np

from tinyddpm.cli import quality_sheet
from tinyddpm.evaluation.neighbours import Neighbours


def numbered(numbers):
    """Images that say their number."""
    numbers = np.asarray(numbers, np.uint8)
    return np.broadcast_to(numbers[:, None, None, None], (len(numbers), 28, 28, 1)).copy()


def test_each_block_holds_what_its_title_says(monkeypatch):
    confidence = (np.arange(100) * 37 % 100) / 100
    distance = (np.arange(100) * 29 % 100) / 10.0
    nearest = np.arange(100)[::-1]
    quality = SimpleNamespace(
        judged=SimpleNamespace(images=numbered(range(100)), confidence=confidence),
        samples=SimpleNamespace(neighbours=Neighbours(nearest, distance)),
    )
    train = numbered(range(150, 250))
    shown = {}

    def remember(blocks, *, columns):
        assert columns == 20
        shown.update({title: images[:, 0, 0, 0].astype(int) for title, images in blocks})

    monkeypatch.setattr(quality_sheet, "contact_sheet", remember)
    quality_sheet.quality_sheet(quality, train)
    first, least, most, pairs, near = shown.values()
    np.testing.assert_array_equal(first, np.arange(80))
    np.testing.assert_array_equal(least, np.argsort(confidence)[:40])
    np.testing.assert_array_equal(most, np.argsort(confidence)[::-1][:40])
    np.testing.assert_array_equal(pairs[:20], np.arange(20))
    np.testing.assert_array_equal(pairs[20:40], 150 + nearest[:20])
    np.testing.assert_array_equal(near[:20], np.argsort(distance)[:20])
    np.testing.assert_array_equal(near[20:], 150 + nearest[near[:20]])
