"""Pictures as text: what a terminal would show is the picture."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyddpm.figures.terminal import PALETTE, half_blocks

XTERM = {16: (0, 0, 0), 196: (255, 0, 0), 67: (95, 135, 175), 231: (255, 255, 255)}
XTERM |= {232: (8, 8, 8), 244: (128, 128, 128), 255: (238, 238, 238)}


def shown(lines):
    """The pixels that a terminal shows: it knows 38;2, 38;5, 48;2, 48;5, reset and ▀."""
    rows = []
    for line in lines:
        upper, lower, ink = [], [], {}
        for codes, character in re.findall(r"\x1b\[([\d;]*)m|(.)", line):
            if character:
                assert character == "▀"
                upper.append(ink[38])
                lower.append(ink[48])
            elif codes == "0":
                ink = {}
            else:
                ink |= colours([int(code) for code in codes.split(";")])
        assert not ink, "the line does not end in a reset"
        rows += [upper, lower]
    return np.array(rows)


def colours(codes):
    found = {}
    while codes:
        ground, kind, *codes = codes
        if kind == 2:
            found[ground], codes = codes[:3], codes[3:]
        else:
            assert kind == 5
            found[ground], codes = PALETTE[codes[0] - 16], codes[1:]
    return found


def drawn(seed, shape):
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


@given(
    seed=st.integers(0, 99),
    height=st.integers(1, 7),
    width=st.integers(1, 9),
    grey=st.booleans(),
)
def test_true_colour_shows_every_pixel(seed, height, width, grey):
    picture = drawn(seed, (height, width) if grey else (height, width, 3))
    lines = half_blocks(picture, true_colour=True)
    assert len(lines) == -(-height // 2)
    pixels = shown(lines)
    expected = np.stack([picture] * 3, axis=-1) if grey else picture
    np.testing.assert_array_equal(pixels[:height], expected)
    assert not pixels[height:].any()


def test_the_palette_is_that_of_xterm():
    assert len(PALETTE) == 240
    for number, colour in XTERM.items():
        assert tuple(PALETTE[number - 16]) == colour


def test_the_colours_of_the_palette_are_shown_as_they_are():
    picture = PALETTE.astype(np.uint8).reshape(20, 12, 3)
    np.testing.assert_array_equal(shown(half_blocks(picture, true_colour=False)), picture)


def test_greys_are_shown_by_the_ramp():
    """The levels 8, 18 … 238 and those of the cube's diagonal: off by half a gap at most."""
    picture = np.arange(256, dtype=np.uint8).reshape(16, 16)
    pixels = shown(half_blocks(picture, true_colour=False))
    assert (pixels == pixels[..., :1]).all()
    off = np.abs(pixels[..., 0] - picture.astype(int)).ravel()
    assert off.max() <= 8
    assert (off[4:243] <= 5).all()


@pytest.mark.parametrize("true_colour", [True, False])
def test_a_run_of_one_colour_is_one_sequence(true_colour):
    lines = half_blocks(np.full((4, 50), 200, np.uint8), true_colour=true_colour)
    assert [line.count("\x1b[") for line in lines] == [2, 2]  # the colours, the reset
    assert [line.count("▀") for line in lines] == [50, 50]
