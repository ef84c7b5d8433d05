"""What must hold of a zip of arrays before any of its members is read."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence

_LOCAL_HEADER = 30  # bytes before a member's name in a zip


def check_members(infos: Sequence[zipfile.ZipInfo], file_size: int) -> None:
    """Hold the members to their places: .npy files under different names, none overlapping.

    No more is then read, packed, than the file holds.

    Raises:
        ValueError: they are not so.
    """
    names = [info.orig_filename for info in infos]
    if len(set(names)) != len(names) or not all(name.endswith(".npy") for name in names):
        raise ValueError(f"the members should be .npy files under different names: {names}")
    end = 0
    for info in sorted(infos, key=lambda info: info.header_offset):
        if info.header_offset < end:
            raise ValueError(f"member {info.orig_filename} overlaps another")
        end = info.header_offset + _LOCAL_HEADER + len(info.orig_filename) + info.compress_size
    if end > file_size:
        raise ValueError(f"the members need {end} bytes, the file has {file_size}")
