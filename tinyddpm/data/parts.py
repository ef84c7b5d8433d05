"""What the files of the known data sets hold, by which any copy of them can be judged."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Part:
    """A file of a data set once it is unpacked: its name, its bytes and their SHA-256."""

    name: str
    size: int
    sha256: str
