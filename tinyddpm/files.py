"""Writing a file so that a kill, a full disk or a power cut leaves the old one or the new, whole.

    write a temporary file beside it → flush → fsync → rename over it → fsync the folder

The rename is atomic only within one file system, hence "beside it". Without the first fsync the
name could reach the disk before the bytes; without the second the bytes could be there unnamed.

Files are read only if they are plain, and so have an end.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from tinyddpm.errors import StorageError


def write_atomically(
    path: Path,
    write: Callable[[BinaryIO], None],
    *,
    verify: Callable[[Path], None] | None = None,
) -> None:
    """Let ``write`` fill a file that takes the place of ``path`` only when it is whole and on disk.

    ``verify``, if given, is then shown the temporary file, and raises if it is not as it should be.
    If anything fails, an exception of ``write`` or ``verify`` included, the temporary file is
    removed and ``path`` is what it was. The folder must exist.

    Raises:
        StorageError: an OSError while writing, or ``path`` is something other than a plain file.
    """
    with storage_errors(path):
        if path.exists() and not path.is_file():
            raise StorageError(f"{path} is not a plain file and is not replaced")
    # The name is this thread's own: writers of the same path cannot mix their bytes.
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.part")
    try:
        with storage_errors(path):
            with temporary.open("wb") as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
            if verify is not None:
                verify(temporary)
            temporary.replace(path)
            _fsync_folder(path.parent)
    finally:
        _remove(temporary)


def write_text(path: Path, text: str) -> None:
    """Write ``text`` to ``path`` as UTF-8, the whole of it or nothing (see ``write_atomically``).

    Raises:
        StorageError: it cannot be written.
    """

    def write(file: BinaryIO) -> None:
        file.write(text.encode())

    write_atomically(path, write)


def open_plain(path: Path) -> BinaryIO:
    """Open the file ``path`` to be read. To open a pipe would be to wait for a writer, and a device
    may have no end.

    Raises:
        OSError: it cannot be opened, or is no plain file.
    """
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "Not a plain file", str(path))
    return path.open("rb")


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turn an OSError met while writing ``path`` into a StorageError that names it."""
    try:
        yield
    except OSError as error:
        raise StorageError(
            f"cannot write {path}",
            cause=error.strerror or str(error),
            remedy="free some space, or choose a folder that exists and can be written to",
        ) from error


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files of writers that were killed in ``folder``.

    Only for the holder of the folder's lock: a living writer would lose its file (and say so).
    """
    for leftover in folder.glob(".*.part"):
        _remove(leftover)


def _fsync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove(path: Path) -> None:
    """Remove ``path`` if it can be done; the error that led here matters more than this one."""
    try:
        path.unlink(missing_ok=True)
    except OSError:
        return
