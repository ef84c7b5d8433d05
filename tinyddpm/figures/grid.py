"""Many images on one sheet."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from PIL import Image

from tinyddpm.arrays import Array
from tinyddpm.files import write_atomically

_GAP_LEVEL = 96  # grey: shows against the black of MNIST and the white of Fashion's garments


def grid(images: Array, *, columns: int | None = None, zoom: int = 1, gap: int = 1) -> Image.Image:
    """Lay out ``images``, uint8 (N, H, W, 1 or 3), row by row on a grey or RGB sheet.

    Args:
        images: at least one image; places left over in the last row stay empty.
        columns: images in a row; by default as many as make the sheet nearly square.
        zoom: each pixel becomes ``zoom`` × ``zoom`` pixels.
        gap: pixels between neighbours, not zoomed.

    Raises:
        ValueError: the array is not one of images, or a number is out of range.
    """
    if images.ndim != 4 or images.dtype != np.uint8 or 0 in images.shape:
        raise ValueError(f"images must be uint8 (N, H, W, C): got {images.dtype} {images.shape}")
    n, height, width, channels = images.shape
    if channels not in {1, 3}:
        raise ValueError(f"images must have 1 or 3 channels: got {channels}")
    columns = _square(n) if columns is None else columns
    if columns < 1 or zoom < 1 or gap < 0:
        raise ValueError(
            f"columns and zoom start at 1, gap at 0: got columns={columns}, zoom={zoom}, gap={gap}"
        )
    rows = -(-n // columns)
    # Each tile carries its gap on top and at its left; those of the first row and column are cut.
    tile = (height * zoom + gap, width * zoom + gap)
    tiles = np.full((rows * columns, *tile, channels), _GAP_LEVEL, np.uint8)
    tiles[:n, gap:, gap:] = images.repeat(zoom, axis=1).repeat(zoom, axis=2)
    sheet = tiles.reshape(rows, columns, *tile, channels).swapaxes(1, 2)
    sheet = sheet.reshape(rows * tile[0], columns * tile[1], channels)[gap:, gap:]
    return Image.fromarray(sheet[..., 0] if channels == 1 else sheet)


def grid_size(
    shape: tuple[int, ...], *, columns: int | None = None, zoom: int = 1, gap: int = 1
) -> tuple[int, int]:
    """Return the width and height of the sheet that ``grid`` makes of images of ``shape``."""
    n, height, width, _ = shape
    columns = _square(n) if columns is None else columns
    rows = -(-n // columns)
    return columns * (width * zoom + gap) - gap, rows * (height * zoom + gap) - gap


def zoom_for(shape: tuple[int, ...]) -> int:
    """Return the zoom at which small images of ``shape`` (N, H, W, C) are looked at with ease."""
    return max(1, 56 // shape[1])


def _square(n: int) -> int:
    """The columns that make a sheet of ``n`` images nearly square."""
    return math.ceil(math.sqrt(n))


def save_png(image: Image.Image, path: Path) -> None:
    """Write ``image`` to ``path`` as PNG: the whole file or none.

    Raises:
        StorageError: the file cannot be written.
    """
    write_atomically(path, lambda file: image.save(file, format="PNG"))
