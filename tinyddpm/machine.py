"""What this machine has, and what this process has used of it."""

from __future__ import annotations

import os
import resource
import sys
from pathlib import Path


def peak_memory() -> int:
    """Return the most memory, in bytes, that this process has had in use (resident) so far.

    Linux tells it in /proc; its getrusage would count the program that started this one, too.
    """
    found = _kibibytes(Path("/proc/self/status"), "VmHWM:")
    if found is not None:
        return found
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def total_memory() -> int:
    """Return the machine's memory in bytes."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def free_memory() -> int | None:
    """Return the bytes that a new program could have without swapping; None if it is not known."""
    return _kibibytes(Path("/proc/meminfo"), "MemAvailable:")


def _kibibytes(path: Path, key: str) -> int | None:
    """The value of ``key`` in one of Linux's tables, in bytes; None where there is none."""
    try:
        rows = [line.split() for line in path.read_text("ascii", errors="replace").splitlines()]
    except OSError:
        return None
    return next((int(row[1]) * 1024 for row in rows if row and row[0] == key), None)
