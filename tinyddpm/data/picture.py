"""One picture from a file of the user's own, made a square of bytes.

A file is a PNG or a JPEG, whatever its name. It is turned as its EXIF orientation says, laid on
black where it is transparent, cut to the square in its middle, and resized: reduced with a box
filter, each pixel the mean of those that fall into it, or enlarged with a bicubic one. Of 16 bits
a channel the upper 8 are taken. CMYK and palettes become RGB as Pillow converts them.

Size and kind are judged by the header: nothing is unpacked of a file with more than 4096² pixels
(62 kB of PNG can unpack to 64 MB), nor of an animation.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.Image import Resampling

from tinyddpm.data.dataset import ByteArray

EXTENSIONS = (".png", ".jpg", ".jpeg")
MAX_PIXELS = 4096**2

_FORMATS = ("PNG", "JPEG")
_GREY_MODES = {"1", "L", "LA"}  # and those of 16 bits, which begin with I


class BadPictureError(Exception):
    """A file is no picture that can be read; the message says why."""


class Header(NamedTuple):
    """What a file says of its picture: its size as it is stored, and whether that is in grey."""

    width: int
    height: int
    grey: bool

    @property
    def side(self) -> int:
        """The side of the square in its middle."""
        return min(self.width, self.height)


def read_header(path: Path) -> Header:
    """Return what the header of ``path`` says, and unpack nothing.

    Raises:
        BadPictureError: it is no picture, or one that is not read.
    """
    with _opened(path) as image:
        grey = image.mode in _GREY_MODES or image.mode.startswith("I")
        return Header(image.width, image.height, grey)


def read_square(path: Path, size: int, *, grey: bool) -> ByteArray:
    """Return the picture in ``path`` as (size, size, 1) if ``grey``, else (size, size, 3).

    Raises:
        BadPictureError: it is no picture, one that is not read, or damaged.
    """
    with _opened(path) as opened:
        # A JPEG can be unpacked at a half, a quarter or an eighth of its size, far faster.
        opened.draft(None, (4 * size, 4 * size))
        image = _opaque(ImageOps.exif_transpose(opened)).convert("L" if grey else "RGB")
        side = min(image.size)
        left, top = (image.width - side) // 2, (image.height - side) // 2
        filter_ = Resampling.BOX if side >= size else Resampling.BICUBIC
        square = image.resize((size, size), filter_, (left, top, left + side, top + side))
        return np.asarray(square).reshape(size, size, -1)


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """Yield the picture in ``path``, of which only the header has been read."""
    if not path.is_file():
        raise BadPictureError("no plain file, or a link that leads to none")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what matters is an error below
            with Image.open(path, formats=_FORMATS) as image:
                _check(image)
                yield image
    except (BadPictureError, MemoryError):
        raise
    except UnidentifiedImageError as error:
        found = "something else, or one damaged at its head" if path.stat().st_size else "nothing"
        raise BadPictureError(f"expected a PNG or JPEG, found {found}") from error
    except Image.DecompressionBombError as error:  # far more, before _check could see it
        raise BadPictureError(f"expected at most {MAX_PIXELS} pixels, found far more") from error
    except Exception as error:  # Pillow meets damaged bytes with a dozen types
        found = str(error) or type(error).__name__
        raise BadPictureError(f"expected a sound PNG or JPEG, found: {found}") from error


def _check(image: Image.Image) -> None:
    if image.width * image.height > MAX_PIXELS:
        found = f"{image.width}×{image.height}"
        raise BadPictureError(f"expected at most {MAX_PIXELS} pixels, found {found}")
    if image.format == "PNG" and getattr(image, "is_animated", False):
        raise BadPictureError("expected one picture, found an animation")


def _opaque(image: Image.Image) -> Image.Image:
    """Return ``image`` in 8 bits and without transparency."""
    if image.mode.startswith("I"):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if not image.has_transparency_data:
        return image
    black = Image.new("RGBA", image.size, (0, 0, 0, 255))
    return Image.alpha_composite(black, image.convert("RGBA"))
