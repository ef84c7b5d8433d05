"""The contact sheet: blocks in order, images in their places, pairs below each other."""

import numpy as np
import pytest

from tinyddpm.figures.contact_sheet import Block, contact_sheet, paired
from tinyddpm.figures.grid import grid


def images(first, count, channels=1):
    levels = np.arange(first, first + count, dtype=np.uint8)
    return np.broadcast_to(levels[:, None, None, None], (count, 4, 4, channels)).copy()


def places(sheet, part):
    """Where the array ``part`` lies in the array ``sheet``, by their first row."""
    height, width = part.shape[:2]
    return [
        (top, left)
        for top in range(sheet.shape[0] - height + 1)
        for left in range(sheet.shape[1] - width + 1)
        if (sheet[top : top + height, left : left + width] == part).all()
    ]


@pytest.mark.parametrize("channels", [1, 3])
def test_every_block_is_there_below_the_one_before(channels):
    blocks = [
        Block("first", images(100, 7, channels)),
        Block("second", images(150, 3, channels)),
    ]
    sheet = contact_sheet(blocks, columns=5, zoom=2)
    assert sheet.mode == ("L" if channels == 1 else "RGB")
    found = [
        places(np.asarray(sheet), np.asarray(grid(block.images, columns=5, zoom=2)))
        for block in blocks
    ]
    (one,), (two,) = found
    assert one[1] == two[1]
    assert two[0] > one[0]


def test_titles_are_written():
    blank, written = (
        np.asarray(contact_sheet([Block(title, images(100, 30))], columns=30))
        for title in ("", "Samples")
    )
    assert blank.shape == written.shape
    rows = np.flatnonzero((blank != written).any(axis=1))
    block = np.asarray(grid(images(100, 30), columns=30, zoom=2))
    ((top, _),) = places(written, block)
    assert 0 < rows.min() <= rows.max() < top


def test_no_title_is_cut():
    """Also not above a few small images."""
    title = "The nearest to a training image, and that below"
    narrow, wide = (
        np.asarray(contact_sheet([Block(title, images(100, count))], columns=count))
        for count in (1, 100)
    )
    top = places(wide, np.asarray(grid(images(100, 100), columns=100, zoom=2)))[0][0]
    ink = [(sheet[:top] < 128).sum() for sheet in (narrow, wide)]
    assert ink[0] == ink[1] > 100


def test_pairs_lie_below_each_other():
    above, below = images(0, 6), images(100, 6)
    in_rows = paired(above, below, 3)[:, 0, 0, 0].reshape(4, 3)
    np.testing.assert_array_equal(in_rows, [[0, 1, 2], [100, 101, 102], [3, 4, 5], [103, 104, 105]])


def test_pairs_that_do_not_fill_a_row_are_left_out():
    assert len(paired(images(0, 5), images(100, 5), 3)) == 6
