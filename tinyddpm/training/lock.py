"""One process at a time: a lock that the kernel frees however its holder ends, kill −9 included."""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from tinyddpm.errors import RunLockedError, StorageError


@contextmanager
def exclusive_lock(path: Path) -> Iterator[None]:
    """Hold the lock file ``path``, with this process's pid and host written in it.

    The file stays behind; only the kernel's lock on it counts.

    Raises:
        RunLockedError: another holds it.
        StorageError: the file cannot be written, or its file system knows no locks.
    """
    with storage_errors(path):
        file = path.open("a+", encoding="utf-8", errors="replace")
    with file:
        with storage_errors(path):
            _acquire(file, path)
        yield


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turn an OSError met while writing ``path`` into a StorageError that names it."""
    try:
        yield
    except OSError as error:
        raise StorageError(
            f"cannot write {path}",
            cause=error.strerror or str(error),
            remedy="make room, or choose a folder that exists and can be written to",
        ) from error


def _acquire(file: TextIO, path: Path) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.seek(0)
        raise RunLockedError(
            f"another process is training in {path.parent}",
            cause=f"{path.name} is held by {file.read().strip() or 'a process that just began'}",
            remedy="wait until it ends, or train with another --out",
        ) from error
    os.ftruncate(file.fileno(), 0)
    os.write(file.fileno(), f"pid {os.getpid()} on {socket.gethostname()}\n".encode())
