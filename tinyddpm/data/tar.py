"""Reading chosen members of a tar archive, packed or not, without extracting anything.

A tar file is a row of blocks of 512 bytes (POSIX.1-1988, "ustar"): for each member a header, then
its content, filled up to whole blocks; a header of zeros ends it. Of a header's fields count here

    0 name 100    124 size 12, octal    148 checksum 8, octal    156 type 1    345 prefix 155

A member is read if it is a plain file whose name was asked for, and passed over if it is anything
else: a link, a device, a name with ``..`` in it. No name in the archive ever becomes a path.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path

from tinyddpm.data.packed import Readable, damaged, open_unpacked, read_at_most

_BLOCK = 512
_PLAIN = (b"0", b"\0")


def read_members(
    path: Path, names: Collection[str], *, most: int, in_all: int
) -> Iterator[tuple[str, bytearray]]:
    """Yield the name and content of those members of the archive ``path`` that are in ``names``.

    Args:
        path: the archive.
        names: as they are in the archive, such as ``folder/file.bin``.
        most: bytes that a member may have; of a longer one, that many and one more are returned.
        in_all: bytes that the archive may have, unpacked.

    Raises:
        DataError: the archive cannot be read, is damaged, lacks a name, or has one twice.
    """
    wanted = set(names)
    with open_unpacked(path) as unpacked:
        stream = _Limited(path, unpacked, in_all)
        while any(header := _header(path, stream)):
            name, size = _name(header), _number(path, header[124:136])
            content = bytearray()
            if name in names and header[156:157] in _PLAIN:
                if name not in wanted:
                    raise damaged(path, f"one member {name}", "two")
                wanted.remove(name)
                content = read_at_most(stream, min(size, most + 1))
                yield name, content
            _skip(path, stream, -(-size // _BLOCK) * _BLOCK - len(content))
        while stream.read(2**20):  # whatever packed it checks its sum at the end
            pass
    if wanted:
        raise damaged(path, f"members {', '.join(sorted(wanted))}", "an archive without them")


def _header(path: Path, stream: Readable) -> bytes:
    """Return the next header, or zeros at the end."""
    header = bytes(read_at_most(stream, _BLOCK))
    if len(header) < _BLOCK:
        raise damaged(path, "a whole tar archive", "one that is cut short")
    blank = header[:148] + b" " * 8 + header[156:]
    if any(header) and sum(blank) != _number(path, header[148:156]):
        raise damaged(path, "the header of a tar member", "a wrong checksum")
    return header


def _number(path: Path, field: bytes) -> int:
    digits = field.strip(b"\0 ")
    if digits.strip(b"01234567"):
        raise damaged(path, "an octal number in a tar header", repr(field))
    return int(digits or b"0", 8)


def _name(header: bytes) -> str:
    """Return a member's name; a byte that is not UTF-8 makes it one that nobody asks for."""
    parts = (header[345:500], header[:100])
    return "/".join(part.split(b"\0")[0].decode(errors="replace") for part in parts if part[0])


def _skip(path: Path, stream: Readable, amount: int) -> None:
    while amount > 0:
        block = stream.read(min(amount, 2**20))
        if not block:
            raise damaged(path, "a whole tar archive", "one that is cut short")
        amount -= len(block)


class _Limited:
    """A stream that refuses to go on for ever."""

    def __init__(self, path: Path, stream: Readable, limit: int) -> None:
        self._path, self._stream, self._limit, self._left = path, stream, limit, limit

    def read(self, amount: int, /) -> bytes:
        """Return up to ``amount`` bytes, none at the end."""
        block = self._stream.read(amount)
        self._left -= len(block)
        if self._left < 0:
            raise damaged(self._path, f"at most {self._limit} bytes once unpacked", "more")
        return block
