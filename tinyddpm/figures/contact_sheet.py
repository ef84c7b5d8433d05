"""Images in titled blocks, one below the other."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from tinyddpm.arrays import Array
from tinyddpm.figures.grid import grid

_MARGIN, _LINE, _TEXT = 12, 26, 14  # pixels
_PAPER, _INK = 255, 30


class Block(NamedTuple):
    """Some images and what they are."""

    title: str
    images: Array  # uint8 (N, H, W, 1 or 3)


def paired(above: Array, below: Array, columns: int) -> Array:
    """Return images for a block of ``columns``: rows of ``above``, each with ``below`` under it.

    Both (N, H, W, C). Only whole rows are taken, of which there must be one.
    """
    rows = [
        part[start : start + columns]
        for start in range(0, len(above) - len(above) % columns, columns)
        for part in (above, below)
    ]
    return np.concatenate(rows)


def contact_sheet(blocks: Sequence[Block], *, columns: int, zoom: int = 2) -> Image.Image:
    """Return the ``blocks``, each below its title, with ``columns`` images in a row."""
    grids = [grid(block.images, columns=columns, zoom=zoom) for block in blocks]
    font = ImageFont.load_default(_TEXT)
    titles = [math.ceil(font.getlength(block.title)) for block in blocks]
    width = 2 * _MARGIN + max(*titles, *(part.width for part in grids))
    height = _MARGIN + sum(_LINE + part.height + _MARGIN for part in grids)
    mode = "L" if {part.mode for part in grids} == {"L"} else "RGB"
    sheet = Image.new(mode, (width, height), _PAPER if mode == "L" else (_PAPER,) * 3)
    draw, top = ImageDraw.Draw(sheet), _MARGIN
    for block, part in zip(blocks, grids, strict=True):
        draw.text((_MARGIN, top), block.title, _INK if mode == "L" else (_INK,) * 3, font)
        sheet.paste(part, (_MARGIN, top + _LINE))
        top += _LINE + part.height + _MARGIN
    return sheet
