"""Atomic writing: the old file or the new one, and never a stump."""

import errno
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import BinaryIO

import pytest

from tinyddpm.errors import StorageError
from tinyddpm.files import open_plain, remove_leftovers, write_atomically, write_text


def test_writes_and_replaces(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    for content in (b"first", b"second, longer"):
        write_atomically(path, lambda file, content=content: file.write(content))
        assert path.read_bytes() == content
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("failure", "raised"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), StorageError),
        (ValueError("the writer's own"), ValueError),
        (KeyboardInterrupt(), KeyboardInterrupt),
    ],
)
def test_a_failed_write_changes_nothing(
    tmp_path: Path, failure: BaseException, raised: type[BaseException]
) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")

    def write(file: BinaryIO) -> None:
        file.write(b"half of the n")
        raise failure

    with pytest.raises(raised):
        write_atomically(path, write)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_fsync_is_a_failed_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fsync(_: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(StorageError, match=r"(?s)a\.bin.*Input/output error"):
        write_atomically(path, lambda file: file.write(b"new"))
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_bytes_reach_the_disk_before_the_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, seen, fsync = tmp_path / "a.bin", [], os.fsync

    def record(descriptor: int) -> None:
        seen.append((os.path.isdir(descriptor), path.exists()))
        if not os.path.isdir(descriptor):
            assert os.fstat(descriptor).st_size == 3
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", record)
    write_atomically(path, lambda file: file.write(b"new"))
    assert seen == [(False, False), (True, True)]


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="gone"):
        write_atomically(tmp_path / "gone" / "a.bin", lambda file: file.write(b"new"))


def test_what_is_not_a_plain_file_is_not_replaced(tmp_path: Path) -> None:
    pipe, folder = tmp_path / "pipe", tmp_path / "folder"
    os.mkfifo(pipe)
    folder.mkdir()
    for path in (pipe, folder):
        with pytest.raises(StorageError, match="not a plain file"):
            write_atomically(path, lambda file: file.write(b"new"))
    assert pipe.is_fifo()
    assert folder.is_dir()


def test_leftovers_of_killed_writers_are_removed(tmp_path: Path) -> None:
    whole, stump = tmp_path / "a.bin", tmp_path / ".a.bin.123-456.part"
    of_another = tmp_path / "film.part"
    whole.write_bytes(b"whole")
    stump.write_bytes(b"hal")
    of_another.write_bytes(b"a download that a user has begun")
    remove_leftovers(tmp_path)
    assert set(tmp_path.iterdir()) == {whole, of_another}


def test_text_is_utf_8(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "ᾱ_t, é\n")
    assert (tmp_path / "a.txt").read_bytes() == "ᾱ_t, é\n".encode()


def test_threads_that_write_one_file_do_not_mix_their_bytes(tmp_path: Path) -> None:
    path, turns = tmp_path / "a.bin", Barrier(2, timeout=10)

    def write(content: bytes) -> None:
        def halves(file: BinaryIO) -> None:
            turns.wait()
            file.write(content)
            file.flush()
            turns.wait()
            file.write(content)

        write_atomically(path, halves)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(write, [b"one", b"other"]))
    assert path.read_bytes() in {b"oneone", b"otherother"}
    assert list(tmp_path.iterdir()) == [path]


def test_a_device_and_a_pipe_are_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (Path("/dev/null"), tmp_path / "pipe"):
        with pytest.raises(OSError, match="Not a plain file") as caught:
            open_plain(path)
        assert caught.value.filename == str(path)


def test_what_is_plain_is_read(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"a")
    (tmp_path / "link").symlink_to("a")
    with open_plain(tmp_path / "link") as file:
        assert file.read() == b"a"
    for path, error in ((tmp_path / "gone", FileNotFoundError), (tmp_path, OSError)):
        with pytest.raises(error):
            open_plain(path)
