"""The checkpoint file: exact, the same bytes each time, and nothing damaged or hostile gets in."""

import errno
import io
import json
import math
import os
import pickle
import tracemalloc
import warnings
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from training_states import same, state

from tinyddpm.errors import CheckpointError, StorageError
from tinyddpm.training.checkpoint import FLAT, FORMAT_VERSION, read, save

Members = dict[str, bytes]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A good checkpoint."""
    save(tmp_path / "good.npz", state())
    return tmp_path / "good.npz"


def members_of(path: Path) -> Members:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def npy(array: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    return file.getvalue()


def manifest_of(members: Members) -> Any:
    return json.loads(np.load(io.BytesIO(members["manifest.npy"])).tobytes())


def with_manifest(members: Members, manifest: Any) -> Members:
    text = json.dumps(manifest).encode()
    return members | {"manifest.npy": npy(np.frombuffer(text, np.uint8))}


def write_zip(path: Path, members: Members, compression: int = zipfile.ZIP_STORED) -> None:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in members.items():
            archive.writestr(name, data)


# What comes back is what was saved.


@pytest.mark.parametrize("step", [0, 1000])
def test_round_trip(tmp_path: Path, step: int) -> None:
    save(tmp_path / "a.npz", state(step))
    assert same(read(tmp_path / "a.npz"), state(step))


def test_numpy_reads_it(path: Path) -> None:
    with np.load(path, allow_pickle=False) as file:
        assert set(file.files) == {"manifest", *FLAT, "extra.vlb_history", "extra.vlb_count"}
        for name in FLAT:
            np.testing.assert_array_equal(file[name], getattr(state(), name))
        manifest = json.loads(file["manifest"].tobytes())
    assert manifest["step"] == 1000
    assert manifest["arrays"]["value"] == {"dtype": "float32", "shape": [21]}


def test_the_same_state_gives_the_same_bytes(path: Path, tmp_path: Path) -> None:
    save(tmp_path / "again.npz", read(path))
    assert (tmp_path / "again.npz").read_bytes() == path.read_bytes()


def test_other_layouts_are_saved_as_their_values(tmp_path: Path) -> None:
    good = state()
    backwards = replace(good, value=good.value[::-1].copy()[::-1])
    transposed = {
        "a": np.arange(6.0).reshape(2, 3).T,
        "empty": np.zeros((0, 3)),
        "one": np.ones(()),
    }
    save(tmp_path / "a.npz", replace(backwards, extra=transposed))
    assert same(read(tmp_path / "a.npz"), replace(good, extra=transposed))


def test_a_member_may_be_larger_than_zip_itself_allows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """2 GiB, and here 50 bytes: 64 bits are kept for its size before it is known."""
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 50)
    save(tmp_path / "a.npz", state())
    assert same(read(tmp_path / "a.npz"), state())


def test_a_file_of_the_first_format_still_loads() -> None:
    assert same(read(Path(__file__).with_name("format_1.npz")), state())


# A state that should not be kept is refused, and the old file stays.


@pytest.mark.parametrize("name", FLAT)
@pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf])
def test_a_poisoned_state_is_never_saved(path: Path, name: str, poison: float) -> None:
    array = getattr(state(), name).copy()
    array[7] = poison
    before = path.read_bytes()
    with pytest.raises(CheckpointError, match=f"{name} holds values that are not finite"):
        save(path, replace(state(), **{name: array}))
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "changed",
    [
        {"value": np.zeros(20, np.float32)},
        {"ema": np.zeros(21)},
        {"adam_m": np.zeros((21, 1), np.float32)},
        {"parameters": [("conv.weight", (3, 3))]},
        {"step": -1},
        {"seconds": np.nan},
        {"config": {"lr": np.nan}},
        {"extra": {"../evil": np.zeros(2)}},
        {"extra": {"objects": np.array([None])}},
        {"extra": {"halves": np.zeros(2, np.float16)}},
    ],
    ids=str,
)
def test_a_state_that_does_not_fit_together_is_refused(
    tmp_path: Path, changed: dict[str, Any]
) -> None:
    with pytest.raises(CheckpointError, match="not written"):
        save(tmp_path / "a.npz", replace(state(), **changed))
    assert list(tmp_path.iterdir()) == []


# Damage by chance.


def test_single_bit_flips(path: Path) -> None:
    """200 flips, drawn so that half of them hit zip's own records between and behind the arrays."""
    good = path.read_bytes()
    generator = np.random.default_rng(0)
    records = [i for i in range(len(good)) if good[i : i + 2] == b"PK" or i > len(good) - 500]
    near = generator.choice(records, 100) + generator.integers(0, 46, 100)
    anywhere = generator.integers(0, len(good), 100)
    rejected = 0
    for position in np.minimum([*near, *anywhere], len(good) - 1):
        damaged = bytearray(good)
        damaged[position] ^= 1 << int(generator.integers(8))
        path.write_bytes(damaged)
        try:
            unharmed = same(read(path), state())
        except CheckpointError:
            rejected += 1
        else:
            assert unharmed, f"byte {position} changed what was read"
    assert rejected > 100


def test_every_flip_within_an_array_is_rejected(path: Path) -> None:
    good = path.read_bytes()
    start = good.index(state().ema.tobytes())
    for position in range(start, start + state().ema.nbytes):
        path.write_bytes(good[:position] + bytes([good[position] ^ 1]) + good[position + 1 :])
        with pytest.raises(CheckpointError, match="damaged"):
            read(path)


def test_every_truncation_is_rejected(path: Path) -> None:
    good = path.read_bytes()
    for length in range(len(good)):
        path.write_bytes(good[:length])
        with pytest.raises(CheckpointError, match="damaged"):
            read(path)


@given(st.binary(max_size=300), st.sampled_from([b"", b"PK\x03\x04", b"PK\x05\x06"]))
def test_random_bytes(tmp_path_factory: pytest.TempPathFactory, junk: bytes, magic: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "junk.npz"
    path.write_bytes(magic + junk)
    with pytest.raises(CheckpointError, match=r"junk\.npz is damaged"):
        read(path)


def test_what_may_not_be_read_is_not_called_damaged(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(*_: Any) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    for name in ("is_file", "open"):  # where the folder may not be looked into, and the file
        with monkeypatch.context() as patch:
            patch.setattr(Path, name, denied)
            with pytest.raises(CheckpointError, match=r"npz cannot be read\n.*Permission denied"):
                read(path)


def test_want_of_memory_is_not_called_damage(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise MemoryError

    monkeypatch.setattr(zipfile.ZipFile, "read", full)
    with pytest.raises(MemoryError):
        read(path)


def test_what_is_not_there(tmp_path: Path) -> None:
    for missing in (tmp_path / "none.npz", tmp_path, tmp_path / ("x" * 300)):
        with pytest.raises(CheckpointError):
            read(missing)


# Files made with intent. Each is a zip whose CRCs are right.


def reject(path: Path, cause: str) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(CheckpointError, match=cause):
            read(path)
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


class Exploit:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return os.mkdir, (str(self.folder),)


@pytest.mark.parametrize("listed_as", ["float32", "object"])
def test_an_object_array(path: Path, tmp_path: Path, listed_as: str) -> None:
    members = members_of(path) | {"value.npy": npy(np.array([Exploit(tmp_path / "owned")]))}
    manifest = manifest_of(members)
    manifest["arrays"]["value"] = {"dtype": listed_as, "shape": [1]}
    write_zip(path, with_manifest(members, manifest))
    reject(path, "damaged")
    assert not (tmp_path / "owned").exists()
    with pytest.raises(FileExistsError):  # the exploit works, where it is let in
        pickle.loads(pickle.dumps(Exploit(tmp_path)))


def test_a_zip_bomb(path: Path) -> None:
    members = members_of(path) | {"value.npy": npy(np.zeros(2**21, np.float32))}
    write_zip(path, members, zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 2**15
    reject(path, "compressed")


def test_a_member_longer_than_the_file(path: Path) -> None:
    data = path.read_bytes()
    at = data.index(b"PK\x01\x02", data.rindex(b"PK\x01\x02"))  # the last entry of the directory
    huge = (2**31).to_bytes(4, "little")
    path.write_bytes(data[: at + 20] + huge + huge + data[at + 28 :])
    reject(path, "damaged")


def test_duplicate_names(path: Path) -> None:
    members = members_of(path)
    with zipfile.ZipFile(path, "a") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        archive.writestr("value.npy", members["ema.npy"])
    reject(path, "different names")


@pytest.mark.parametrize("name", ["../evil.npy", "/tmp/evil.npy", "extra.a/../b.npy", "value2.npy"])
def test_names_that_are_not_ours(path: Path, name: str) -> None:
    members = members_of(path) | {name: npy(np.zeros(3))}
    write_zip(path, members)
    reject(path, "damaged")
    manifest = manifest_of(members)
    manifest["arrays"][name.removesuffix(".npy")] = {"dtype": "float64", "shape": [3]}
    write_zip(path, with_manifest(members, manifest))
    reject(path, "damaged")


def test_two_members_that_numpy_takes_for_one(path: Path) -> None:
    members = members_of(path)
    write_zip(path, members | {"ema": members["value.npy"]})
    reject(path, "different names")


@pytest.mark.parametrize("name", ["manifest.npy", "adam_v.npy", "extra.vlb_count.npy"])
def test_a_missing_member(path: Path, name: str) -> None:
    members = members_of(path)
    del members[name]
    write_zip(path, members)
    reject(path, "manifest")


def test_a_header_of_a_trillion_elements(path: Path) -> None:
    members = members_of(path)
    header = members["value.npy"][:128].replace(b"(21,), }           ", b"(1000000000000,), }")
    assert len(header) == 128
    manifest = manifest_of(members)
    manifest["arrays"]["value"]["shape"] = [10**12]
    manifest["parameters"] = [["w", [10**12]]]
    members["value.npy"] = header + members["value.npy"][128:]
    write_zip(path, with_manifest(members, manifest))
    reject(path, "1000000000000")


def test_overlapping_members(path: Path) -> None:
    """A member that lies within the bytes of another, which grows a file without end."""
    members = members_of(path)
    inner = npy(np.zeros(40))
    local = io.BytesIO()
    with zipfile.ZipFile(local, "w") as archive:
        archive.writestr(zipfile.ZipInfo("extra.b.npy"), inner)
    entry = local.getvalue()[: 30 + len("extra.b.npy") + len(inner)]
    outer = np.frombuffer(entry + bytes(-len(entry) % 8), np.float64)
    manifest = manifest_of(members)
    manifest["arrays"]["extra.a"] = {"dtype": "float64", "shape": [len(outer)]}
    manifest["arrays"]["extra.b"] = {"dtype": "float64", "shape": [40]}
    write_zip(path, with_manifest(members, manifest) | {"extra.a.npy": npy(outer)})
    at = path.read_bytes().index(entry)
    with zipfile.ZipFile(path, "a") as archive:
        info = zipfile.ZipInfo("extra.b.npy")
        info.header_offset, info.CRC = at, zlib.crc32(inner)
        info.compress_size = info.file_size = len(inner)
        archive.filelist.append(info)
        archive.comment = b"so that the directory is written anew"
    reject(path, "damaged.*\n.*(?i:overlap)")


@pytest.mark.parametrize(
    "array",
    [
        np.zeros(21, np.float64),
        np.zeros(21, ">f4"),
        np.zeros((1, 21), np.float32),
        np.zeros(22, np.float32),
        np.asfortranarray(np.zeros((7, 3), np.float32)),
    ],
    ids=lambda array: f"{array.dtype.str}{array.shape}",
)
def test_an_array_that_is_not_what_the_manifest_says(path: Path, array: Any) -> None:
    write_zip(path, members_of(path) | {"value.npy": npy(array)})
    reject(path, "a member that should be float32")


def test_an_array_longer_or_shorter_than_its_header_says(path: Path) -> None:
    members = members_of(path)
    good = members["value.npy"]
    for data in (good + b"junk", good + b"j", good[:-4], good[:-1], good[:128], good[:50], b""):
        write_zip(path, members | {"value.npy": data})
        reject(path, "a member that should be float32")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("step", -1),
        ("step", "1000"),
        ("step", True),
        ("config", []),
        ("data_fingerprint", None),
        ("seconds", -1.0),
        ("seconds", math.inf),
        ("parameters", [["w", [22]]]),
        ("parameters", [["w", [-3, -7]]]),
        ("parameters", [["w", [21.0]]]),
        ("parameters", "value"),
        ("arrays", list(FLAT)),
        ("format_version", None),
    ],
)
def test_a_manifest_that_makes_no_sense(path: Path, key: str, value: Any) -> None:
    members = members_of(path)
    write_zip(path, with_manifest(members, manifest_of(members) | {key: value}))
    reject(path, "damaged")


@pytest.mark.parametrize("text", [b"", b"null", b"[]", b"\xff", b'{"a"', b"[" * 100_000])
def test_a_manifest_that_is_no_manifest(path: Path, text: bytes) -> None:
    write_zip(path, members_of(path) | {"manifest.npy": npy(np.frombuffer(text, np.uint8))})
    reject(path, "damaged")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=6,
)


@given(
    key=st.sampled_from(["step", "config", "parameters", "seconds", "arrays", "format_version"]),
    value=json_values,
)
def test_any_manifest(tmp_path_factory: pytest.TempPathFactory, key: str, value: Any) -> None:
    path = tmp_path_factory.getbasetemp() / "any.npz"
    save(path, state())
    members = members_of(path)
    write_zip(path, with_manifest(members, manifest_of(members) | {key: value}))
    try:
        found = read(path)
    except CheckpointError:
        return
    for name in FLAT:
        np.testing.assert_array_equal(getattr(found, name), getattr(state(), name))


def test_a_newer_format_says_so(path: Path) -> None:
    members = members_of(path)
    manifest = {"format_version": FORMAT_VERSION + 1, "arrays": "as nobody knows yet"}
    write_zip(path, with_manifest(members, manifest))
    with pytest.raises(CheckpointError, match="newer tinyddpm") as caught:
        read(path)
    assert "upgrade" in caught.value.remedy


def test_a_file_with_values_that_are_not_finite(path: Path) -> None:
    write_zip(path, members_of(path) | {"ema.npy": npy(np.full(21, np.nan, np.float32))})
    reject(path, "ema holds values that are not finite")


# The disk fails while saving.


def test_what_does_not_read_back_is_not_kept(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = path.read_bytes()
    fsync = os.fsync

    def bad_disk(descriptor: int) -> None:
        os.pwrite(descriptor, b"\xff\xff", 1000)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", bad_disk)
    with pytest.raises(StorageError, match="did not read back"):
        save(path, state(2000))
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


class FullDisk(io.FileIO):
    """A file that takes ``room`` writes and no more."""

    def __init__(self, path: Path, room: int, error: int) -> None:
        super().__init__(path, "wb")
        self.room = room
        self.error = error

    def write(self, data: Any) -> int:
        if self.room == 0:
            raise OSError(self.error, os.strerror(self.error))
        self.room -= 1
        return super().write(data)


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EFBIG, errno.EIO])
def test_a_full_disk_at_every_write(
    path: Path, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    before = path.read_bytes()
    path_open = Path.open
    room = 0
    causes = set()

    def limited_open(self: Path, mode: str = "r", *rest: Any, **options: Any) -> Any:
        if mode == "wb":
            return io.BufferedWriter(FullDisk(self, room, error), buffer_size=64)
        return path_open(self, mode, *rest, **options)

    monkeypatch.setattr(Path, "open", limited_open)
    while True:
        try:
            save(path, state(2000))
        except StorageError as failure:
            causes.add(failure.cause)
        else:
            break
        assert path.read_bytes() == before
        assert list(path.parent.iterdir()) == [path]
        room += 1
    assert room > 20
    assert causes == {os.strerror(error)}
    assert same(read(path), state(2000))
