"""How much room there is and how much is needed, as a user reads it."""

from __future__ import annotations

import shutil
from pathlib import Path

_MIB = 2**20


def size(count: int) -> str:
    """Return ``count`` bytes in MiB, or in a larger unit where there would be four digits."""
    number, unit = count / _MIB, "MiB"
    for larger in ("GiB", "TiB", "PiB"):
        if number < 1000:
            break
        number, unit = number / 1024, larger
    whole = unit == "MiB" and number >= 10
    return f"{number:,.0f} {unit}" if whole else f"{number:,.1f} {unit}"


def free_space(folder: Path) -> int:
    """Return the bytes that are free for ``folder``, which may be yet to be made."""
    folder = folder.absolute()
    return shutil.disk_usage(folder).free if folder.is_dir() else free_space(folder.parent)
