"""Arrays that NumPy has saved: what is read of them, and all that is refused."""

import io
import os
import struct
import subprocess
import sys
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tinyddpm.data import array_file, load
from tinyddpm.data.array_file import load_array
from tinyddpm.errors import DataError

BYTES = np.arange(2 * 4 * 4 * 3, dtype=np.uint8).reshape(2, 4, 4, 3)


def npy(array, **options) -> bytes:
    out = io.BytesIO()
    np.lib.format.write_array(out, np.asarray(array), **options)
    return out.getvalue()


def zip_of(members, compression=zipfile.ZIP_STORED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", compression) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return out.getvalue()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "mine.npz"


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_both_splits_are_read(path: Path, save) -> None:
    save(path, images=BYTES, labels=[3, 0], test_images=BYTES[:1], test_labels=np.uint8([1]))
    train, test = (load(str(path), split=split) for split in ("train", "test"))
    np.testing.assert_array_equal(train.images, BYTES, strict=True)
    np.testing.assert_array_equal(test.images, BYTES[:1], strict=True)
    assert train.labels is not None
    assert test.labels is not None
    assert (train.labels.tolist(), test.labels.tolist()) == ([3, 0], [1])
    assert train.class_names == ("0", "1", "2", "3")
    assert (train.name, train.folder, train.notices) == ("mine", path, ())


def test_a_single_array_is_the_images(path: Path) -> None:
    np.savez(path, BYTES)
    np.testing.assert_array_equal(load_array(path).images, BYTES)
    np.save(path.with_suffix(".npy"), BYTES[..., 0])
    single = load_array(path.with_suffix(".npy"))
    np.testing.assert_array_equal(single.images, BYTES[..., :1], strict=True)
    assert (single.labels, single.class_names) == (None, ())
    path.write_bytes(path.with_suffix(".npy").read_bytes())  # whatever its name
    np.testing.assert_array_equal(load_array(path).images, BYTES[..., :1])


def test_what_sample_writes_is_read(path: Path) -> None:
    np.savez(path, images=BYTES[..., :1])
    np.testing.assert_array_equal(load_array(path).images, BYTES[..., :1])


@given(
    x=arrays(np.float64, (3, 2, 2, 1), elements=st.floats(0, 1)),
    dtype=st.sampled_from(["<f2", "<f4", ">f4", "<f8", ">f8"]),
    fortran=st.booleans(),
)
def test_floats_become_the_nearest_bytes(tmp_path_factory, x, dtype: str, fortran: bool) -> None:
    path = tmp_path_factory.mktemp("x") / "x.npy"
    x = np.array(x, dtype, order="F" if fortran else "C")
    np.save(path, x)
    images = load_array(path).images
    assert images.flags["C_CONTIGUOUS"]
    assert np.abs(images - 255 * x.astype(float)).max() <= 0.5
    assert images[x == 1].tolist() == [255] * int((x == 1).sum())


def test_large_arrays_are_read_block_by_block(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(array_file, "_BLOCK", 7)
    for order in "CF":
        np.save(tmp_path / "x.npy", np.array(BYTES / 255, order=order))
        np.testing.assert_array_equal(load_array(tmp_path / "x.npy").images, BYTES)


def floats(**spots):
    x = np.full((2, 4, 4, 1), 0.5)
    for index, value in enumerate(spots.values()):
        x.flat[index] = value
    return x


UNFIT = {
    "NaN": (floats(a=np.nan), r"floats in \[0, 1\] in images, found NaN"),
    "infinite": (floats(a=np.inf), "found 0.5 to inf"),
    "to 255": (floats(a=255.0, b=0.0), "found 0 to 255"),
    "from −1": (floats(a=-1.0), "found -1 to 0.5"),
    "int64": (BYTES.astype(int), "bytes .uint8. or floats, found int64"),
    "bool": (BYTES > 3, "of numbers, found bool"),
    "text": (np.full((2, 4, 4, 1), "a"), "of numbers, found <U1"),
    "complex": (BYTES * 1j, "of numbers, found complex128"),
    "channels first": (BYTES.transpose(0, 3, 1, 2), r"images.transpose\(0, 2, 3, 1\)"),
    "two channels": (BYTES[..., :2], r"found \(2, 4, 4, 2\)\n"),
    "one image": (BYTES[0, ..., 0], r"found \(4, 4\)"),
    "a number": (np.uint8(3), r"found shape \(\)"),
    "none": (BYTES[:0], r"found shape \(0, 4, 4, 3\)"),
}


@pytest.mark.parametrize(("images", "message"), UNFIT.values(), ids=UNFIT.keys())
def test_arrays_that_are_no_images_are_refused(path: Path, images, message: str) -> None:
    np.savez(path, images=images)
    with pytest.raises(DataError, match=rf"(?s)mine.npz is refused.*{message}") as caught:
        load(str(path))
    assert "np.savez" in caught.value.remedy or "np.uint8" in caught.value.remedy


@pytest.mark.parametrize(
    ("images", "remedy", "fit"),
    [
        (BYTES / 127.5 - 1, "save (images + 1) / 2, if they lie in [-1, 1]", lambda x: (x + 1) / 2),
        (BYTES * 1.0, "images.astype(np.uint8), if in 0 … 255", lambda x: x.astype(np.uint8)),
        (BYTES.astype(int), "images.astype(np.uint8), if they", lambda x: x.astype(np.uint8)),
    ],
)
def test_numbers_of_another_range_are_told_what_makes_them_fit(path: Path, images, remedy, fit):
    np.savez(path, images=images)
    with pytest.raises(DataError) as caught:
        load(str(path))
    assert remedy in caught.value.remedy
    np.savez(path, images=fit(images))
    np.testing.assert_array_equal(load(str(path)).images, BYTES)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0.0, 1.0], "expected labels of integers 0 … 255, found float64"),
        ([0, 256], "found int64 from 0 to 256"),
        ([-1, 0], "found int64 from -1 to 0"),
        ([0], r"2 images need as many bytes of labels.*\(1,\)"),
        ([[0], [1]], r"\(2, 1\)"),
    ],
)
def test_labels_that_are_none_are_refused(path: Path, labels, message: str) -> None:
    np.savez(path, images=BYTES, labels=labels)
    with pytest.raises(DataError, match=rf"(?s)mine\.npz.*{message}"):
        load(str(path))


def test_all_labels_of_a_byte_are_read(path: Path) -> None:
    np.savez(path, images=BYTES, labels=[255, 0])
    data = load(str(path))
    np.testing.assert_array_equal(data.labels, np.uint8([255, 0]), strict=True)
    assert data.class_names == tuple(map(str, range(256)))


def test_what_is_missing_is_named_with_what_is_there(path: Path) -> None:
    np.savez(path, x_train=BYTES, y_train=[0, 1])
    with pytest.raises(DataError, match="has no array 'images'") as caught:
        load(str(path))
    assert caught.value.cause == "it holds x_train, y_train"
    np.savez(path, images=BYTES)
    with pytest.raises(DataError, match="has no array 'test_images'"):
        load(str(path), split="test")


WHOLE = npy(BYTES)
HEADER = b"\x93NUMPY\x01\x00" + struct.pack("<H", 118)


def promising(shape: str, descr: str = "'|u1'", content: bytes = b"") -> bytes:
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}"
    return HEADER + f"{text:<117}\n".encode() + content


class Evil:
    def __reduce__(self):
        return (exec, ("raise SystemExit('run')",))


def overlapping() -> bytes:
    """Two members that the directory puts at the same place."""
    data = bytearray(zip_of([("images.npy", WHOLE), ("labels.npy", WHOLE)]))
    second = data.rindex(b"PK\x01\x02")
    data[second + 42 : second + 46] = bytes(4)
    return bytes(data)


def encrypted() -> bytes:
    data = bytearray(zip_of([("images.npy", WHOLE)]))
    data[data.rindex(b"PK\x01\x02") + 8] |= 1
    return bytes(data)


def ending_early() -> bytes:
    """A member of which the directory promises 96 values, the sum included, and that has one."""
    data = bytearray(zip_of([("images.npy", WHOLE[:129])], zipfile.ZIP_DEFLATED))
    for start in (22, data.rindex(b"PK\x01\x02") + 24):
        data[start : start + 4] = struct.pack("<I", len(WHOLE))
    return bytes(data)


def long_header() -> bytes:
    """Version 2.0 may have a header of 4 GiB, which here is packed into a few kilobytes."""
    start = b"\x93NUMPY\x02\x00" + struct.pack("<I", 2**32 - 1)
    return zip_of([("images.npy", start + b" " * 2**23)], zipfile.ZIP_DEFLATED)


DEFLATED = zipfile.ZIP_DEFLATED
BAD = {
    "empty": (b"", "np.savez or np.save has written"),
    "text": (b"<html>", "np.savez or np.save has written"),
    "objects": (npy(np.array([Evil()]), allow_pickle=True), "of numbers, found object"),
    "objects in a zip": (
        zip_of([("images.npy", npy(np.array([Evil()]), allow_pickle=True))]),
        "of numbers, found object",
    ),
    "records": (npy(np.zeros(2, [("a", "O")]), allow_pickle=True), "of numbers"),
    "cut": (WHOLE[:-1], "does not fill its file"),
    "followed": (WHOLE + b"\0", "does not fill its file"),
    "header cut": (WHOLE[:50], ""),
    "absurd": (promising("(10**12,)"), ""),
    "huge": (promising("(1000000, 1000, 1000)"), "1 to 8589934592 values"),
    "large and empty": (promising("(1000, 1000, 1000)"), "does not fill its file"),
    "negative": (promising("(-1, -4, 4, 1)", content=bytes(16)), "values, found shape"),
    "product of 2^64": (promising(str((2**32, 2**32))), "1 to 8589934592 values"),
    "version 2": (long_header(), "expected images in version 1.0"),
    "bomb": (zip_of([("images.npy", npy(np.zeros((300, 256, 256), np.uint8)))], DEFLATED), "256"),
    "bzip2": (zip_of([("images.npy", WHOLE)], zipfile.ZIP_BZIP2), "another compression"),
    "upwards": (zip_of([("images.npy", WHOLE), ("../evil.npy", WHOLE)]), "'../evil'"),
    "absolute": (zip_of([("/tmp/evil.npy", WHOLE)]), "'/tmp/evil'"),
    "other files": (zip_of([("images.npy", WHOLE), ("run.py", b"")]), "should be .npy files"),
    "overlapping": (overlapping(), "overlap"),
    "ending early": (ending_early(), "cut short"),
    "encrypted": (encrypted(), "encrypted|password"),
    "zip cut": (zip_of([("images.npy", WHOLE)])[:-30], "zip"),
    "flipped": (zip_of([("images.npy", WHOLE)]).replace(bytes([7, 8, 9]), bytes(3)), "CRC"),
    "nothing in it": (zip_of([]), "has no array 'images'"),
}


@pytest.mark.parametrize(("data", "message"), BAD.values(), ids=BAD.keys())
def test_bad_files_are_refused_in_little_memory(path: Path, data: bytes, message: str) -> None:
    path.write_bytes(data)
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match=rf"(?s)mine.npz.*{message}"):
            load(str(path))
        assert tracemalloc.get_traced_memory()[1] < 4 * 2**20
    finally:
        tracemalloc.stop()


def test_names_that_are_there_twice_are_refused(path: Path) -> None:
    with pytest.warns(UserWarning, match="Duplicate name"):
        path.write_bytes(zip_of([("images.npy", WHOLE)] * 2))
    with pytest.raises(DataError, match="under different names"):
        load(str(path))


def test_tightly_packed_labels_are_no_bomb(path: Path) -> None:
    """Sorted labels pack as tightly as a bomb does, but are small."""
    images = np.random.Generator(np.random.PCG64(0)).bytes(100_000 * 4)
    labels = np.repeat(np.arange(2), 50_000)
    np.savez_compressed(
        path, images=np.frombuffer(images, np.uint8).reshape(-1, 2, 2), labels=labels
    )
    with zipfile.ZipFile(path) as archive:
        info = archive.getinfo("labels.npy")
        assert info.file_size > 256 * info.compress_size
    assert load(str(path)).class_names == ("0", "1")


def test_large_images_may_be_packed_as_images_are(path: Path, monkeypatch) -> None:
    monkeypatch.setattr(array_file, "_HARMLESS", 0)
    np.savez_compressed(path, images=BYTES)
    np.testing.assert_array_equal(load_array(path).images, BYTES)


def test_whole_numbers_as_python_2_wrote_them_are_read_without_a_warning(path: Path) -> None:
    path.write_bytes(promising("(2L, 4L, 4L, 3L)", content=BYTES.tobytes()))
    np.testing.assert_array_equal(load_array(path).images, BYTES)


LIMITED = """
import resource, sys
from pathlib import Path
from tinyddpm.data import load
from tinyddpm.errors import DataError

used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 64 * 2**20, resource.RLIM_INFINITY))
for name in sys.argv[1:]:
    try:
        load(name)
    except DataError as error:
        print(error.exit_code)
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="not Linux")
def test_all_of_them_are_refused_within_64_megabytes(tmp_path: Path) -> None:
    """Also of address space, which tracemalloc does not see."""
    paths = [tmp_path / f"{number}.npz" for number in range(len(BAD))]
    for file, (data, _) in zip(paths, BAD.values(), strict=True):
        file.write_bytes(data)
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, *map(str, paths)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.split() == ["3"] * len(BAD), done.stderr


def test_a_file_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"(?s)cannot read .*gone.*No such file"):
        load_array(tmp_path / "gone")


def test_a_pipe_is_not_waited_for(path: Path) -> None:
    os.mkfifo(path)
    with pytest.raises(DataError, match="not a plain file"):
        load(str(path))


FORMS = {
    "npy": WHOLE,
    "stored": zip_of([("images.npy", WHOLE), ("labels.npy", npy(np.uint8([1, 0])))]),
    "deflated": zip_of([("images.npy", WHOLE)], zipfile.ZIP_DEFLATED),
}


@given(
    edits=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=4),
    cut=st.integers(0, 30),
    extra=st.binary(max_size=3),
)
@pytest.mark.parametrize("form", FORMS)
@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_fuzzed_files_give_images_or_a_data_error(
    path: Path, form: str, edits, cut: int, extra: bytes
) -> None:
    data = bytearray(FORMS[form][: len(FORMS[form]) - cut] + extra)
    for place, value in edits:
        data[int(place * (len(data) - 1))] = value
    path.write_bytes(data)
    try:
        found = load(str(path))
    except DataError as error:
        assert str(path) in str(error) or "data set mine" in str(error)  # noqa: PT017
    else:
        assert found.images.size <= BYTES.size
        if form != "npy":  # a zip holds a sum of the content
            np.testing.assert_array_equal(found.images, BYTES)
