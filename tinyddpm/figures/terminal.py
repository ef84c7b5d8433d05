"""A picture as text: each character is two pixels, one above the other.

The upper half block ▀ is drawn in the colour of the upper pixel on that of the lower. Colours are
ECMA-48 escape sequences, written only where they change:

    ESC[38;2;R;G;Bm  ESC[48;2;R;G;Bm    character and background in 24 bits
    ESC[38;5;Nm      ESC[48;5;Nm        in the 240 colours that xterm fixed: N = 16 … 231 is a cube
                                        of 6 × 6 × 6 colours, 232 … 255 a ramp of 24 greys
"""

from __future__ import annotations

import itertools

import numpy as np

from tinyddpm.arrays import Array, IntArray

UPPER_HALF = "▀"
_RESET = "\x1b[0m"
_FIRST = 16  # the 16 before are the user's own, of any colour

_CUBE = list(itertools.product((0, 95, 135, 175, 215, 255), repeat=3))
_RAMP = [(level, level, level) for level in range(8, 248, 10)]
PALETTE = np.array([*_CUBE, *_RAMP])  # (240, 3)


def half_blocks(picture: Array, *, true_colour: bool) -> list[str]:
    """Return lines of text that show ``picture``, uint8 (H, W) or (H, W, 3); W characters each.

    Args:
        picture: if H is odd the last line ends in black.
        true_colour: 24-bit colours; else the nearest of the 240.
    """
    rgb = np.stack([picture] * 3, axis=-1) if picture.ndim == 2 else picture
    rgb = np.pad(rgb, ((0, rgb.shape[0] % 2), (0, 0), (0, 0)))
    codes = _codes_true(rgb) if true_colour else _codes_256(rgb)
    return [_line(upper, lower) for upper, lower in zip(codes[::2], codes[1::2], strict=True)]


def _codes_true(rgb: Array) -> list[list[str]]:
    """What follows 38; or 48; for each pixel."""
    return [[f"2;{r};{g};{b}" for r, g, b in row] for row in rgb]


def _codes_256(rgb: Array) -> list[list[str]]:
    colours, index = np.unique(rgb.reshape(-1, 3), axis=0, return_inverse=True)
    nearest = _nearest(colours)[index].reshape(rgb.shape[:2])
    return [[f"5;{_FIRST + n}" for n in row] for row in nearest]


def _nearest(colours: Array) -> IntArray:
    """The index in PALETTE of the colour nearest to each of ``colours`` (N, 3)."""
    apart = colours[:, None].astype(np.int64) - PALETTE
    index: IntArray = (apart * apart).sum(axis=2).argmin(axis=1)
    return index


def _line(upper: list[str], lower: list[str]) -> str:
    parts = []
    for colours, run in itertools.groupby(zip(upper, lower, strict=True)):
        parts.append(f"\x1b[38;{colours[0]};48;{colours[1]}m{UPPER_HALF * len(list(run))}")
    return "".join(parts) + _RESET
