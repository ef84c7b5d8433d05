"""One picture: what becomes of its pixels, and which files are refused, by their header alone."""

import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile

from tinyddpm.data.picture import BadPictureError, read_header, read_square

RANDOM = np.random.Generator(np.random.PCG64(5))
COLOURS = RANDOM.integers(0, 256, (12, 20, 3), dtype=np.uint8)
GREYS = COLOURS[..., 0]


def png(pixels: np.ndarray, **options) -> bytes:
    return encoded(Image.fromarray(pixels), "PNG", **options)


def encoded(image: Image.Image, form: str, **options) -> bytes:
    out = io.BytesIO()
    image.save(out, form, **options)
    return out.getvalue()


def chunk(kind: bytes, content: bytes) -> bytes:
    sum_ = struct.pack(">I", zlib.crc32(kind + content))
    return struct.pack(">I", len(content)) + kind + content + sum_


def png_of(width: int, height: int, packed: bytes, depth: int = 8, colour: int = 0) -> bytes:
    """A PNG of any size, its pixels being whatever ``packed`` says."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


@pytest.fixture
def square(tmp_path: Path):
    """Read a file of the given content."""

    def read(content: bytes, size: int, *, grey: bool = False) -> np.ndarray:
        path = tmp_path / "picture"  # its name says nothing
        path.write_bytes(content)
        return read_square(path, size, grey=grey)

    return read


def header_of(tmp_path: Path, content: bytes):
    path = tmp_path / "picture.jpg"
    path.write_bytes(content)
    return read_header(path)


def block_means(pixels: np.ndarray, size: int) -> np.ndarray:
    """The mean of each block, by the definition, of a square whose side ``size`` divides."""
    side = len(pixels) // size
    blocks = pixels.reshape(size, side, size, side, -1).astype(float)
    return blocks.mean(axis=(1, 3))


@pytest.mark.parametrize("size", [12, 6, 4])
def test_the_middle_square_is_reduced_to_means(square, size: int) -> None:
    wide, high = COLOURS, COLOURS.swapaxes(0, 1).copy()
    expected = block_means(COLOURS[:, 4:16], size)
    assert np.abs(square(png(wide), size) - expected).max() <= 1
    upright = expected.swapaxes(0, 1)
    assert np.abs(square(png(high), size) - upright).max() <= 1
    if size == 12:
        np.testing.assert_array_equal(square(png(wide), size), COLOURS[:, 4:16])


def test_small_pictures_are_enlarged_smoothly(square) -> None:
    ramp = np.repeat(np.arange(0, 240, 20, dtype=np.uint8)[None], 12, axis=0)
    large = square(png(ramp), 48, grey=True)[..., 0].astype(int)
    assert (np.diff(large[24]) >= 0).all()
    assert np.diff(large[24]).max() <= 8  # blocks would step by 20


TURNS = {
    1: lambda x: x,
    2: np.fliplr,
    3: lambda x: np.rot90(x, 2),
    4: np.flipud,
    5: lambda x: x.swapaxes(0, 1),
    6: lambda x: np.rot90(x, -1),
    7: lambda x: np.rot90(x, 2).swapaxes(0, 1),
    8: np.rot90,
}


@pytest.mark.parametrize("orientation", TURNS)
def test_pictures_are_turned_as_exif_says(square, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    turned = TURNS[orientation](COLOURS)
    middle = turned[:, 4:16] if turned.shape[0] == 12 else turned[4:16]
    np.testing.assert_array_equal(square(png(COLOURS, exif=exif), 12), middle)


def test_a_large_jpeg_is_the_mean_of_what_it_shows(square) -> None:
    """Also where it is unpacked at a fraction of its size: here at a quarter."""
    blocks = RANDOM.integers(0, 256, (32, 32), dtype=np.uint8)
    large = blocks.repeat(20, axis=0).repeat(20, axis=1)
    found = square(encoded(Image.fromarray(large), "JPEG", quality=95), 32, grey=True)
    assert np.abs(found[..., 0].astype(int) - blocks).max() < 4


def test_sixteen_bits_keep_their_upper_eight(tmp_path: Path, square) -> None:
    deep = RANDOM.integers(0, 65536, (8, 8), dtype=np.uint16)
    content = png(deep)
    assert header_of(tmp_path, content).grey
    np.testing.assert_array_equal(square(content, 8, grey=True)[..., 0], deep >> 8)
    rows = b"".join(b"\0" + row.astype(">u2").repeat(3).tobytes() for row in deep)
    colour = png_of(8, 8, zlib.compress(rows), depth=16, colour=2)
    assert not header_of(tmp_path, colour).grey
    np.testing.assert_array_equal(square(colour, 8)[..., 1], deep >> 8)


def test_transparency_is_laid_on_black(square) -> None:
    alpha = np.full((12, 20, 1), 255, np.uint8)
    alpha[:, :10] = 0
    clear = square(png(np.concatenate([COLOURS, alpha], axis=2)), 12)
    assert (clear[:, :6] == 0).all()
    np.testing.assert_array_equal(clear[:, 6:], COLOURS[:, 10:16])
    grey = Image.merge("LA", [Image.fromarray(GREYS), Image.fromarray(alpha[..., 0])])
    found = square(encoded(grey, "PNG"), 12, grey=True)[..., 0]
    assert (found[:, :6] == 0).all()
    np.testing.assert_array_equal(found[:, 6:], GREYS[:, 10:16])


def test_palettes_and_cmyk_become_rgb(square) -> None:
    image = Image.fromarray(COLOURS)
    palette = image.quantize(16)
    expected = np.asarray(palette.convert("RGB"))[:, 4:16]
    np.testing.assert_array_equal(square(encoded(palette, "PNG"), 12), expected)
    flat = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    assert np.abs(square(encoded(flat, "JPEG"), 8) - np.array([255, 0, 0])).max() <= 3


def test_of_a_telephones_jpeg_the_first_picture_is_read(square) -> None:
    """Those hold further ones, such as a map of depths, and are no animations."""
    first, second = Image.new("L", (8, 8), 200), Image.new("L", (8, 8), 0)
    several = encoded(first, "MPO", save_all=True, append_images=[second])
    assert (square(several, 8, grey=True) == 200).all()


@pytest.mark.parametrize(
    ("mode", "form", "grey"),
    [
        ("1", "PNG", True),
        ("L", "PNG", True),
        ("LA", "PNG", True),
        ("L", "JPEG", True),
        ("P", "PNG", False),
        ("RGB", "PNG", False),
        ("RGBA", "PNG", False),
        ("RGB", "JPEG", False),
        ("CMYK", "JPEG", False),
    ],
)
def test_the_way_it_is_stored_says_whether_it_is_grey(
    tmp_path: Path, square, mode: str, form: str, grey: bool
) -> None:
    content = encoded(Image.new(mode, (20, 12)), form)
    assert header_of(tmp_path, content) == (20, 12, grey)
    assert header_of(tmp_path, content).side == 12
    assert square(content, 4, grey=grey).shape == (4, 4, 1 if grey else 3)


def animation() -> bytes:
    frames = [Image.new("L", (8, 8), level) for level in (0, 99, 200)]
    return encoded(frames[0], "PNG", save_all=True, append_images=frames[1:])


BAD = {
    "empty": (b"", "expected a PNG or JPEG, found nothing"),
    "text": (b"<html>", "expected a PNG or JPEG, found something else"),
    "gif": (encoded(Image.new("L", (8, 8)), "GIF"), "expected a PNG or JPEG"),
    "tiff": (encoded(Image.new("L", (8, 8)), "TIFF"), "expected a PNG or JPEG"),
    "animation": (animation(), "expected one picture, found an animation"),
    "bomb": (
        png_of(4097, 4096, zlib.compress(bytes(4098 * 4096), 9)),
        "expected at most 16777216 pixels, found 4097×4096",
    ),
    "absurd": (png_of(2**31 - 1, 2**31 - 1, b""), "at most 16777216 pixels, found far more"),
    "no pixels": (png_of(0, 8, b""), "PNG or JPEG|size"),
}


@pytest.mark.parametrize(("content", "message"), BAD.values(), ids=BAD.keys())
def test_bad_files_are_known_by_their_header(
    tmp_path: Path, monkeypatch, content: bytes, message: str
) -> None:
    def unpacked(_):
        pytest.fail("pixels were unpacked")

    monkeypatch.setattr(ImageFile.ImageFile, "load", unpacked)
    path = tmp_path / "a.png"
    path.write_bytes(content)
    assert len(content) < 2**17
    for read in (read_header, lambda path: read_square(path, 8, grey=True)):
        with pytest.raises(BadPictureError, match=message):
            read(path)


def test_a_picture_of_the_most_pixels_is_read(tmp_path: Path) -> None:
    assert header_of(tmp_path, png_of(4096, 4096, b"")) == (4096, 4096, True)


@pytest.mark.parametrize("form", ["PNG", "JPEG"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
def test_cut_files_have_a_header_and_no_pixels(tmp_path: Path, form: str, share: float) -> None:
    noise = RANDOM.integers(0, 256, (64, 64, 3), dtype=np.uint8)
    content = encoded(Image.fromarray(noise), form)
    path = tmp_path / "a.png"
    path.write_bytes(content[: int(share * len(content))])
    assert read_header(path) == (64, 64, False)
    with pytest.raises(BadPictureError, match=r"expected a sound PNG or JPEG, found: .*truncated"):
        read_square(path, 8, grey=False)


def test_what_is_no_plain_file_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")  # opening it would wait for ever
    (tmp_path / "round.png").symlink_to(tmp_path / "round.png")
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere")
    for name in ("pipe.png", "round.png", "gone.png"):
        with pytest.raises(BadPictureError, match="no plain file"):
            read_header(tmp_path / name)


SMALL = {
    "png": png(COLOURS),
    "palette": encoded(Image.fromarray(COLOURS).quantize(9), "PNG", transparency=3),
    "deep": png(GREYS.astype(np.uint16) * 257),
    "jpeg": encoded(Image.fromarray(COLOURS), "JPEG"),
    "exif": encoded(Image.fromarray(COLOURS), "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\0"),
}


@given(
    edits=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=5),
    cut=st.integers(0, 40),
    grey=st.booleans(),
)
@pytest.mark.parametrize("form", SMALL)
@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_fuzzed_files_give_a_square_or_a_reason(
    tmp_path: Path, form: str, edits, cut: int, grey: bool
) -> None:
    data = bytearray(SMALL[form][: len(SMALL[form]) - cut])
    for place, value in edits:
        data[int(place * (len(data) - 1))] = value
    path = tmp_path / "a.png"
    path.write_bytes(data)
    try:
        header, found = read_header(path), read_square(path, 4, grey=grey)
    except BadPictureError as error:
        assert str(error)  # noqa: PT017  either outcome is right
    else:
        assert header.width * header.height <= 2**24
        assert found.shape == (4, 4, 1 if grey else 3)
        assert found.dtype == np.uint8
