from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tinyddpm.errors import StorageError
from tinyddpm.figures.grid import grid, grid_size, save_png, zoom_for

GAP = 96


@given(
    n=st.integers(1, 11),
    height=st.integers(1, 4),
    width=st.integers(1, 4),
    channels=st.sampled_from([1, 3]),
    columns=st.integers(1, 13),
    zoom=st.integers(1, 3),
    gap=st.integers(0, 2),
    data=st.data(),
)
@settings(max_examples=50)
def test_every_image_lies_in_its_place(
    n: int, height: int, width: int, channels: int, columns: int, zoom: int, gap: int, data
) -> None:
    count = n * height * width * channels
    pixels = data.draw(st.binary(min_size=count, max_size=count))
    images = np.frombuffer(pixels, np.uint8).reshape(n, height, width, channels)
    rows = -(-n // columns)
    sheet = np.asarray(grid(images, columns=columns, zoom=zoom, gap=gap))
    sheet = sheet.reshape(*sheet.shape[:2], channels)
    assert sheet.shape[0] == rows * (height * zoom + gap) - gap
    assert sheet.shape[1] == columns * (width * zoom + gap) - gap
    foreseen = grid_size(images.shape, columns=columns, zoom=zoom, gap=gap)
    assert foreseen == (sheet.shape[1], sheet.shape[0])

    rest = np.ones(sheet.shape[:2], bool)
    for i, image in enumerate(images):
        top = i // columns * (height * zoom + gap)
        left = i % columns * (width * zoom + gap)
        place = np.s_[top : top + height * zoom, left : left + width * zoom]
        expected = np.kron(image, np.ones((zoom, zoom, 1), np.uint8))
        np.testing.assert_array_equal(sheet[place], expected)
        rest[place] = False
    assert (sheet[rest] == GAP).all()


@pytest.mark.parametrize(("n", "size"), [(1, (1, 1)), (2, (3, 1)), (5, (5, 3)), (16, (7, 7))])
def test_the_sheet_is_nearly_square(n: int, size: tuple[int, int]) -> None:
    assert grid(np.zeros((n, 1, 1, 1), np.uint8)).size == size == grid_size((n, 1, 1, 1))


@given(height=st.integers(1, 200), width=st.integers(1, 200))
def test_the_zoom_is_the_largest_that_keeps_56_pixels(height: int, width: int) -> None:
    zoom = zoom_for((3, height, width, 1))
    assert zoom == 1 or 1 <= zoom * height <= 56
    assert (zoom + 1) * height > 56


def test_grey_stays_grey_and_colour_colour() -> None:
    assert grid(np.zeros((2, 3, 3, 1), np.uint8)).mode == "L"
    assert grid(np.zeros((2, 3, 3, 3), np.uint8)).mode == "RGB"


@pytest.mark.parametrize(
    ("images", "options", "message"),
    [
        (np.zeros((2, 3, 3), np.uint8), {}, r"\(2, 3, 3\)"),
        (np.zeros((2, 3, 3, 1), np.float32), {}, "float32"),
        (np.zeros((0, 3, 3, 1), np.uint8), {}, r"\(0, 3, 3, 1\)"),
        (np.zeros((2, 3, 3, 2), np.uint8), {}, "got 2"),
        (np.zeros((2, 3, 3, 1), np.uint8), {"columns": 0}, "columns=0"),
        (np.zeros((2, 3, 3, 1), np.uint8), {"zoom": 0}, "zoom=0"),
        (np.zeros((2, 3, 3, 1), np.uint8), {"gap": -1}, "gap=-1"),
    ],
)
def test_what_cannot_be_laid_out_is_refused(images, options, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        grid(images, **options)


def test_png_keeps_every_byte(tmp_path: Path) -> None:
    images = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    path = tmp_path / "sheet.png"
    save_png(grid(images), path)
    with Image.open(path) as image:
        assert image.format == "PNG"
        np.testing.assert_array_equal(np.asarray(image), images[0, ..., 0])
    assert list(tmp_path.iterdir()) == [path]


def test_a_picture_that_cannot_be_written_names_its_path(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"gone.sheet\.png"):
        save_png(grid(np.zeros((1, 2, 2, 1), np.uint8)), tmp_path / "gone" / "sheet.png")
