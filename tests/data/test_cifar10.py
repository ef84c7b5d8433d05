"""CIFAR-10's batches, loose, packed and in the archive, whole and damaged; and its real files."""

import gzip
import hashlib
import io
import lzma
import struct
import tarfile
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tinyddpm.data import cifar10, load
from tinyddpm.data.cifar10 import ARCHIVE, BATCHES, CLASS_NAMES, load_cifar10
from tinyddpm.data.download import RemoteFile
from tinyddpm.errors import DataError, MissingFilesError

ROWS = 2  # images in a batch of these tests
NAMES = [*BATCHES["train"], *BATCHES["test"]]
INNER = "cifar-10-batches-bin"


def batch(number: int) -> bytes:
    """Two images: labels number and 9, each byte known from its place."""
    planes = np.arange(3 * 1024, dtype=np.uint32) * 7 + number
    image = (planes % 251).astype(np.uint8).tobytes()
    return bytes([number]) + image + bytes([9]) + image[::-1]


CONTENT = {name: batch(number) for number, name in enumerate(NAMES)}
PACKERS = {"": bytes, ".xz": lzma.compress, ".gz": gzip.compress}


def lay(folder: Path, names=NAMES, packing: str = "") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / (name + packing)).write_bytes(PACKERS[packing](CONTENT[name]))
    return folder


def tar_of(members, pack=gzip.compress) -> bytes:
    """An archive of (TarInfo or name, content) pairs."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for info, content in members:
            entry = tarfile.TarInfo(f"{INNER}/{info}") if isinstance(info, str) else info
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return pack(raw.getvalue())


WHOLE = tar_of(CONTENT.items())


def archive_in(folder: Path, data: bytes = WHOLE) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / ARCHIVE.name).write_bytes(data)
    return folder


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sees this machine's own folders."""
    monkeypatch.setenv("TINYDDPM_DATA", str(tmp_path / "own"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def no_network(url: str):
    raise OSError(f"no route to {url}")


def read(split="train", data_dir=None, open_url=no_network):
    return load_cifar10(split, data_dir, open_url=open_url, batch=ROWS)


def check_whole(data) -> None:
    """Every byte of the training images, found by the format's own definition."""
    assert data.images.shape == (10, 32, 32, 3)
    assert data.labels.tolist() == [0, 9, 1, 9, 2, 9, 3, 9, 4, 9]
    assert data.class_names == CLASS_NAMES
    for n, row, column, channel in np.ndindex(10, 32, 32, 3):
        content = CONTENT[NAMES[n // 2]]
        start = (n % 2) * 3073 + 1
        expected = content[start + 1024 * channel + 32 * row + column]
        if data.images[n, row, column, channel] != expected:
            pytest.fail(f"image {n} at {row}, {column}, {channel}")


@pytest.mark.parametrize("packing", PACKERS)
@pytest.mark.parametrize("inner", ["", INNER])
def test_loose_batches_are_read_packed_or_not(tmp_path: Path, packing: str, inner: str) -> None:
    lay(tmp_path / inner, packing=packing)
    data = read(data_dir=tmp_path)
    check_whole(data)
    assert data.notices == ()
    assert data.folder == tmp_path / inner
    assert read("test", tmp_path).labels.tolist() == [5, 9]


@pytest.mark.parametrize("order", [NAMES, NAMES[::-1]], ids=["as published", "backwards"])
def test_the_archive_is_read_where_it_is_and_nothing_is_extracted(tmp_path: Path, order) -> None:
    others = [("batches.meta.txt", b"airplane\n"), ("readme.html", b"x" * 700)]
    archive_in(tmp_path, tar_of([*((name, CONTENT[name]) for name in order), *others]))
    check_whole(read(data_dir=tmp_path))
    assert read("test", tmp_path).images.shape == (2, 32, 32, 3)
    assert [path.name for path in tmp_path.iterdir()] == [ARCHIVE.name]


def test_a_part_of_the_batches_is_read_and_said(tmp_path: Path) -> None:
    lay(tmp_path, [NAMES[3], NAMES[0]])
    data = read(data_dir=tmp_path)
    assert data.labels.tolist() == [0, 9, 3, 9]
    assert len(data.notices) == 1
    assert "4 images from 2 of 5 training batches" in data.notices[0]
    assert "without data_batch_2.bin, data_batch_3.bin, data_batch_5.bin" in data.notices[0]
    assert "tinyddpm data fetch cifar10" in data.notices[0]


def test_the_place_that_has_most_is_read(tmp_path: Path) -> None:
    """The own folder before the cache, unless the cache has more; the archive before a part."""
    lay(tmp_path / "own" / "cifar10", NAMES[:2])
    lay(tmp_path / "cache" / "tinyddpm" / "cifar10", NAMES[1:2])
    assert read().labels.tolist() == [0, 9, 1, 9]
    archive_in(tmp_path / "cache" / "tinyddpm" / "cifar10")
    check_whole(read())
    lay(tmp_path / "own" / "cifar10", NAMES[1:])
    data = read()
    check_whole(data)
    assert data.folder == tmp_path / "own" / "cifar10"


def test_what_is_nowhere_is_downloaded_into_the_cache(tmp_path: Path, monkeypatch) -> None:
    small = RemoteFile(ARCHIVE.name, len(WHOLE), hashlib.sha256(WHOLE).hexdigest())
    monkeypatch.setattr(cifar10, "ARCHIVE", small)
    asked = []

    def served(url: str):
        asked.append(url)
        return io.BytesIO(WHOLE)

    check_whole(read(open_url=served))
    check_whole(read())
    assert asked == ["https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"]
    cached = tmp_path / "cache" / "tinyddpm" / "cifar10" / ARCHIVE.name
    assert cached.read_bytes() == WHOLE


def test_without_a_network_the_file_and_its_place_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be downloaded") as caught:
        read()
    assert caught.value.cause.count("no route to https://") == len(cifar10.MIRRORS)
    assert str(tmp_path / "cache" / "tinyddpm" / "cifar10") in caught.value.remedy
    assert "cifar-10-binary.tar.gz" in caught.value.remedy


def test_a_given_folder_without_batches_is_named_and_nothing_is_fetched(tmp_path: Path) -> None:
    with pytest.raises(MissingFilesError, match=r"lacks data_batch_1\.bin, ") as caught:
        read(data_dir=tmp_path)
    assert "binary version" in caught.value.remedy
    lay(tmp_path, BATCHES["train"])
    with pytest.raises(MissingFilesError, match=r"lacks test_batch\.bin"):
        read("test", tmp_path)
    assert not (tmp_path / "cache").exists()


def hungry_xz() -> bytes:
    """A sound xz file whose header asks for a dictionary of 1.5 GiB."""
    packed = bytearray(lzma.compress(CONTENT["test_batch.bin"]))
    length = (packed[12] + 1) * 4
    block = packed[12 : 12 + length]
    assert block[2:4] == b"\x21\x01"  # LZMA2, one byte of properties: the dictionary's size
    block[4] = 37
    block[-4:] = struct.pack("<I", zlib.crc32(block[:-4]))
    return bytes(packed[:12] + block + packed[12 + length :])


TEST = CONTENT["test_batch.bin"]
DAMAGED = {
    "empty": (b"", "expected 6146 bytes of test_batch.bin, found 0"),
    "cut": (TEST[:-1], "found 6145"),
    "longer": (TEST + b"\0", "found more"),
    "label 10": (b"\x0a" + TEST[1:], "expected labels 0 … 9 in test_batch.bin, found 10"),
    "xz cut": (lzma.compress(TEST)[:-20], "expected a whole xz file"),
    "xz flipped": (lzma.compress(TEST)[:-40] + bytes(40), "expected a sound xz file"),
    "xz followed": (lzma.compress(TEST) + b"more", "expected one xz stream, found more bytes"),
    "xz hungry": (hungry_xz(), "expected a sound xz file, found Memory usage limit"),
    "xz bomb": (lzma.compress(bytes(2**26)), "found more"),
    "gzip cut": (gzip.compress(TEST)[:-9], "expected a whole gzip file"),
}


@pytest.mark.parametrize(("data", "message"), DAMAGED.values(), ids=DAMAGED.keys())
def test_damage_is_named_in_little_memory(tmp_path: Path, data: bytes, message: str) -> None:
    (tmp_path / "test_batch.bin").write_bytes(data)
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match=rf"(?s)test_batch.bin is damaged.*{message}"):
            read("test", tmp_path)
        assert tracemalloc.get_traced_memory()[1] < 12 * 2**20  # of which 8 are xz's dictionary
    finally:
        tracemalloc.stop()


def link(name: str, kind: bytes = tarfile.SYMTYPE) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, "/etc/hostname"
    return info


def named(name: str) -> tarfile.TarInfo:
    return tarfile.TarInfo(name)


TEST_NAME = f"{INNER}/test_batch.bin"
PLAIN_TEST = tar_of([("test_batch.bin", TEST)], bytes)
LACKING = f"expected members {TEST_NAME}, found an archive without"
HOSTILE = {
    "a link": (tar_of([(link(TEST_NAME), b"")]), LACKING),
    "a hard link": (tar_of([(link(TEST_NAME, tarfile.LNKTYPE), b"")]), LACKING),
    "a device": (tar_of([(link(TEST_NAME, tarfile.CHRTYPE), b"")]), LACKING),
    "upwards": (tar_of([(named(f"../{TEST_NAME}"), TEST)]), LACKING),
    "absolute": (tar_of([(named(f"/{TEST_NAME}"), TEST)]), LACKING),
    "in between": (tar_of([(named(f"{INNER}/../{TEST_NAME}"), TEST)]), LACKING),
    "not utf-8": (tar_of([(named("\udcff"), TEST)]), LACKING),
    "twice": (tar_of([("test_batch.bin", TEST)] * 2), f"one member {TEST_NAME}, found two"),
    "empty": (b"", "expected a whole tar archive"),
    "text": (b"<html>" * 200, "expected the header of a tar member|octal"),
    "cut": (gzip.compress(gzip.decompress(WHOLE)[:-12000]), "found 2848"),
    "cut before": (gzip.compress(gzip.decompress(WHOLE)[:4000]), "expected a whole tar archive"),
    "cut in a header": (gzip.compress(gzip.decompress(WHOLE)[:300]), "a whole tar archive"),
    "another owner": (PLAIN_TEST.replace(b"0000000", b"1000000", 1), "a wrong checksum"),
    "gzip cut": (WHOLE[:-9], "expected a whole gzip file"),
    "gzip check": (WHOLE[:-8] + bytes(8), "expected a sound gzip file"),
    "shorter": (tar_of([("test_batch.bin", TEST[:-1])]), "found 6145"),
    "longer": (tar_of([("test_batch.bin", TEST + b"\0")]), "found more"),
}


@pytest.mark.parametrize(("data", "message"), HOSTILE.values(), ids=HOSTILE.keys())
def test_archives_that_are_hostile_or_damaged_are_refused(
    tmp_path: Path, data: bytes, message: str
) -> None:
    archive_in(tmp_path / "in" / "here", data)
    with pytest.raises(DataError, match=rf"(?s){ARCHIVE.name} is damaged.*({message})"):
        read("test", tmp_path / "in" / "here")
    found = [path.name for path in tmp_path.rglob("*") if path.is_file() or path.is_symlink()]
    assert found == [ARCHIVE.name]


def test_an_archive_that_unpacks_without_end_is_left(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(cifar10, "_IN_ALL", 2**20)
    bomb = tar_of([("other", bytes(2**24)), ("test_batch.bin", TEST)])
    assert len(bomb) < 2**16
    archive_in(tmp_path, bomb)
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match="at most 1048576 bytes once unpacked"):
            read("test", tmp_path)
        assert tracemalloc.get_traced_memory()[1] < 8 * 2**20
    finally:
        tracemalloc.stop()


def test_the_signs_of_a_size_are_not_believed(tmp_path: Path) -> None:
    raw = bytearray(gzip.decompress(tar_of([("test_batch.bin", TEST)])))
    for size in (b"-0000000010\0", b"\xff" * 12, b"0x000000010\0", b"1_000000000\0"):
        raw[124:136] = size
        raw[148:156] = b"%06o\0 " % (sum(raw[:148]) + 8 * 32 + sum(raw[156:512]))
        archive_in(tmp_path, bytes(raw))
        with pytest.raises(DataError, match="octal"):
            read("test", tmp_path)


PLAIN_TAR = tar_of([("other", b"y" * 600), ("test_batch.bin", TEST)], bytes)
FORMS = {
    "plain": ("test_batch.bin", TEST),
    "xz": ("test_batch.bin.xz", lzma.compress(TEST)),
    "tar": (ARCHIVE.name, PLAIN_TAR),
    "tar.gz": (ARCHIVE.name, gzip.compress(PLAIN_TAR)),
}


@given(
    edits=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=4),
    cut=st.integers(0, 30),
    extra=st.binary(max_size=3),
)
@pytest.mark.parametrize("form", FORMS)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_fuzzed_files_give_a_batch_or_a_data_error(
    tmp_path: Path, form: str, edits, cut: int, extra: bytes
) -> None:
    name, whole = FORMS[form]
    data = bytearray(whole[: len(whole) - cut] + extra)
    for place, value in edits:
        data[int(place * (len(data) - 1))] = value
    (tmp_path / name).write_bytes(data)
    try:
        found = read("test", tmp_path)
    except DataError as error:
        assert str(tmp_path / name) in str(error)  # noqa: PT017  either outcome is right
    else:
        assert found.images.shape == (2, 32, 32, 3)
        assert found.labels.max() <= 9
        if form in {"xz", "tar.gz"}:  # they hold a sum of the content
            planes = np.frombuffer(TEST, np.uint8).reshape(2, 3073)[:, 1:].reshape(2, 3, 32, 32)
            np.testing.assert_array_equal(found.images, planes.transpose(0, 2, 3, 1))


def test_mirrors_are_https_folders() -> None:
    assert all(m.startswith("https://") and m.endswith("/") for m in cifar10.MIRRORS)


@pytest.mark.mnist
def test_the_real_files(real_data: Path) -> None:
    folder = real_data / "cifar10"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there")
    test = load("cifar10", split="test", data_dir=folder)
    assert test.images.shape == (10_000, 32, 32, 3)
    assert test.labels is not None
    assert [CLASS_NAMES[label] for label in test.labels[:5]] == [
        "cat",
        "ship",
        "ship",
        "airplane",
        "frog",
    ]
    assert np.bincount(test.labels).tolist() == [1000] * 10
    means = test.images.mean(axis=(0, 1, 2)) / 255  # as published, over the test set
    np.testing.assert_allclose(means, [0.49421, 0.48513, 0.45041], atol=1e-5)
