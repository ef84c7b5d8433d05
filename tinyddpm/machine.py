"""What this machine has, and what this process has used of it."""

from __future__ import annotations

import os
import resource
import sys
from pathlib import Path

_OWN = Path("/proc/self")
worker_pids: set[int] = set()  # of the processes that work for this one and share its memory
_highest = [0]  # what ``peak_memory`` has returned so far, with workers that may have ended since


def peak_memory() -> int:
    """Return the most memory, in bytes, that this process and its workers have had in use
    (resident) so far.

    Workers give nothing back while they live, and this is called before they end: so no peak of
    theirs is missed.
    """
    _highest[0] = max(_highest[0], _own_peak() + _beside())
    return _highest[0]


def resident_memory() -> int:
    """Return the bytes that this process and its workers have in use now; where the system does not
    tell that, the most so far.
    """
    own = _kibibytes(_OWN / "status", "VmRSS:")
    return peak_memory() if own is None else own + _beside()


def _beside() -> int:
    """What workers have in use beside this process: a page that several share counts once."""
    if not worker_pids:
        return 0
    tables = [_OWN / "smaps_rollup", *(Path(f"/proc/{pid}/smaps_rollup") for pid in worker_pids)]
    together = sum(_kibibytes(table, "Pss:") or 0 for table in tables)
    return together - (_kibibytes(_OWN / "status", "VmRSS:") or 0)


def _own_peak() -> int:
    """The peak of this process alone, in bytes.

    Linux tells it in /proc. Its getrusage would count the program that started this one, too.
    """
    found = _kibibytes(_OWN / "status", "VmHWM:")
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
    words, word = _words(path), key.encode()
    return int(words[words.index(word) + 1]) * 1024 if word in words else None


def _words(path: Path) -> list[bytes]:
    """What one of Linux's tables says; nothing where it is not there.

    As bytes: a sampler that is still open when the interpreter ends closes its workers then, which
    asks for this when text can no longer be decoded.
    """
    try:
        return path.read_bytes().split()
    except OSError:
        return []
