"""One process at a time: a lock that the kernel frees however its holder ends, kill −9 included."""

from __future__ import annotations

import fcntl
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from tinyddpm.errors import RunLockedError
from tinyddpm.files import storage_errors

PATIENCE_S = 0.2  # ``overview`` holds the lock for a moment, to see whether it is free


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


def _acquire(file: TextIO, path: Path) -> None:
    until = time.monotonic() + PATIENCE_S
    while not _taken(file):
        if time.monotonic() >= until:
            file.seek(0)
            holder = file.read().strip() or "a process that just began"
            raise RunLockedError(
                f"another process is training in {path.parent}",
                cause=f"{path.name} is held by {holder}",
                remedy="wait until it ends, or train with another --out",
            )
        time.sleep(PATIENCE_S / 20)
    os.ftruncate(file.fileno(), 0)
    os.write(file.fileno(), f"pid {os.getpid()} on {socket.gethostname()}\n".encode())


def _taken(file: TextIO) -> bool:
    """Take the lock, if nobody holds it."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
