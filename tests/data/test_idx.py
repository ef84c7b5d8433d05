"""IDX files, whole and damaged: an array or a DataError that names the file, and bounded memory."""

import gzip
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tinyddpm.data.idx import MAX_BYTES, read_images, read_labels
from tinyddpm.errors import DataError

PIXELS = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4)


def header(*sizes: int, magic: int = 0x0803) -> bytes:
    return struct.pack(f">I{len(sizes)}I", magic, *sizes)


WHOLE = header(2, 3, 4) + PIXELS.tobytes()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "images-idx3-ubyte"


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_reads_packed_and_plain_whatever_the_name(path: Path, pack) -> None:
    path.write_bytes(pack(WHOLE))
    np.testing.assert_array_equal(read_images(path), PIXELS[..., None], strict=True)
    path.write_bytes(pack(header(5, magic=0x0801) + bytes([5, 0, 4, 1, 9])))
    np.testing.assert_array_equal(read_labels(path), np.array([5, 0, 4, 1, 9], np.uint8))
    path.write_bytes(pack(header(1, magic=0x0801) + bytes([7])))
    np.testing.assert_array_equal(read_labels(path), np.array([7], np.uint8))


PACKED = gzip.compress(WHOLE)
DAMAGED = {
    "empty": (b"", "magic 00 00 08 03, found an empty file"),
    "labels": (header(4, magic=0x0801) + bytes(4), "magic 00 00 08 03, found 00 00 08 01"),
    "floats": (header(2, 3, 4, magic=0x0D03) + bytes(96), "found 00 00 0d 03"),
    "text": (b"<html>404</html>", "found 3c 68 74 6d"),
    "header cut": (WHOLE[:9], "expected a header of 16 bytes, found 9 bytes"),
    "body cut": (WHOLE[:-1], "expected 24 bytes of data after the header, found 23"),
    "trailing": (WHOLE + b"\0", "expected 24 bytes of data after the header, found more"),
    "no images": (header(0, 28, 28), r"found a header for \(0, 28, 28\)"),
    "absurd": (header(2**32 - 1, 2**32 - 1, 2**32 - 1), "expected 1 to 1073741824 bytes"),
    "product of 2^32": (header(2**16, 2**15, 2), "expected 1 to 1073741824 bytes"),
    "gzip cut": (PACKED[:-12], "expected a whole gzip file"),
    "gzip without its check": (PACKED[:-8], "expected a whole gzip file"),
    "gzip header alone": (PACKED[:5], "expected a whole gzip file"),
    "gzip check wrong": (PACKED[:-8] + bytes(8), "expected a sound gzip file"),
    "gzip stream wrong": (PACKED[:10] + b"\xff" * 20, "expected a sound gzip file"),
    "gzip trailing": (gzip.compress(WHOLE + b"\0"), "after the header, found more"),
    "gzip then text": (PACKED + b"text", "expected a sound gzip file"),
}


@pytest.mark.parametrize(("data", "message"), DAMAGED.values(), ids=DAMAGED.keys())
def test_damage_is_named_with_the_file(path: Path, data: bytes, message: str) -> None:
    path.write_bytes(data)
    with pytest.raises(DataError, match=rf"(?s)images-idx3-ubyte is damaged.*{message}"):
        read_images(path)


def test_a_file_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"(?s)cannot read .*gone.*No such file"):
        read_images(tmp_path / "gone")
    with pytest.raises(DataError, match=r"(?s)cannot read .*directory"):
        read_images(tmp_path)


@pytest.mark.parametrize(
    "data",
    [
        header(MAX_BYTES // 4, 2, 2) + bytes(1000),
        gzip.compress(header(MAX_BYTES // 4, 2, 2) + bytes(1000)),
        gzip.compress(header(10, 1, 1) + bytes(2**25), compresslevel=1),
    ],
    ids=["promises 1 GiB", "promises 1 GiB in gzip", "gzip bomb"],
)
def test_memory_follows_neither_promises_nor_bombs(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    del data
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match="after the header"):
            read_images(path)
        assert tracemalloc.get_traced_memory()[1] < 4 * 2**20
    finally:
        tracemalloc.stop()


EDITS = st.lists(
    st.tuples(st.integers(0, len(WHOLE) + 3), st.integers(0, 255)), min_size=0, max_size=4
)


@given(edits=EDITS, cut=st.integers(0, 8), extra=st.binary(max_size=3), packed=st.booleans())
@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_fuzzed_files_give_the_declared_array_or_a_data_error(
    path: Path, edits, cut: int, extra: bytes, packed: bool
) -> None:
    data = bytearray(WHOLE[: len(WHOLE) - cut] + extra)
    for place, value in edits:
        data[place % len(data)] = value
    path.write_bytes(gzip.compress(data) if packed else data)
    try:
        images = read_images(path)
    except DataError as error:
        assert str(path) in str(error)  # noqa: PT017  either outcome is right
    else:
        n, height, width = struct.unpack(">3I", data[4:16])
        assert images.shape == (n, height, width, 1)
        assert images.tobytes() == data[16:]


@given(edits=EDITS, cut=st.integers(0, 20))
@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_fuzzed_gzip_gives_the_images_or_a_data_error(path: Path, edits, cut: int) -> None:
    data = bytearray(PACKED[: len(PACKED) - cut])
    for place, value in edits:
        data[place % len(data)] = value
    path.write_bytes(data)
    try:
        images = read_images(path)
    except DataError as error:
        assert str(path) in str(error)  # noqa: PT017  either outcome is right
    else:
        np.testing.assert_array_equal(images, PIXELS[..., None])
