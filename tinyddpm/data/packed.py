"""Reading files that may be packed with gzip or xz, none of which is believed.

The caller says how much to read at most. Memory grows with what is there, not with what the file
promises. A damaged file becomes one ``DataError`` that says what was expected and what was found.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Protocol

from tinyddpm.errors import DataError

_BLOCK = 2**20
_GZIP_MAGIC, _XZ_MAGIC = b"\x1f\x8b", b"\xfd7zXZ\x00"
_XZ_MEMORY = 2**27  # xz -9 asks for 65 MiB; a hostile header could ask for 4 GiB


class Readable(Protocol):
    """What is used of a file that is being read."""

    def read(self, amount: int, /) -> bytes:
        """Return up to ``amount`` bytes, none at the end."""


@contextmanager
def open_unpacked(path: Path) -> Iterator[Readable]:
    """Yield the bytes in ``path``, unpacked if its first bytes say gzip or xz.

    Raises:
        DataError: the file cannot be read, or is found to be damaged while it is.
    """
    try:
        with path.open("rb") as file:
            magic = file.read(len(_XZ_MAGIC))
            file.seek(0)
            if magic == _XZ_MAGIC:
                yield _XzReader(path, file)
            elif magic.startswith(_GZIP_MAGIC):
                with gzip.open(file) as unpacked:
                    yield unpacked
            else:
                yield file
    except EOFError as error:
        raise damaged(path, "a whole gzip file", "one that is cut short") from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise damaged(path, "a sound gzip file", str(error)) from error
    except OSError as error:
        raise DataError(f"cannot read {path}", cause=error.strerror or str(error)) from error
    except ImportError as error:
        raise DataError(f"cannot read {path}", cause=str(error), remedy=f"xz -dk {path}") from error


def read_at_most(stream: Readable, limit: int) -> bytearray:
    """Read up to ``limit`` bytes in blocks."""
    data = bytearray()
    while len(data) < limit and (block := stream.read(min(_BLOCK, limit - len(data)))):
        data += block
    return data


def read_each(found: Mapping[str, Path], most: int) -> Iterator[tuple[str, bytearray]]:
    """Yield each name in ``found`` and its file's content, up to ``most`` bytes and one more.

    Raises:
        DataError: a file cannot be read or is damaged.
    """
    for name, path in found.items():
        with open_unpacked(path) as stream:
            content = read_at_most(stream, most + 1)
        yield name, content


def damaged(path: Path, expected: str, found: str) -> DataError:
    """Return the error of a file that is not what it should be."""
    return DataError(
        f"{path} is damaged or is another file",
        cause=f"expected {expected}, found {found}",
        remedy="delete it and fetch it again",
    )


class _XzReader:
    """One xz stream and nothing after it, unpacked as it is read.

    ``lzma.LZMAFile`` would do, but takes whatever memory the file's header asks for.
    """

    def __init__(self, path: Path, file: BinaryIO) -> None:
        import lzma  # noqa: PLC0415  some Pythons are built without it

        self._path, self._file, self._error = path, file, lzma.LZMAError
        self._unpacker = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY)

    def read(self, amount: int, /) -> bytes:
        """Return up to ``amount`` bytes, none at the end."""
        while not self._unpacker.eof:
            packed = self._file.read(_BLOCK) if self._unpacker.needs_input else b""
            if self._unpacker.needs_input and not packed:
                raise damaged(self._path, "a whole xz file", "one that is cut short")
            try:
                data = self._unpacker.decompress(packed, amount)
            except self._error as error:
                raise damaged(self._path, "a sound xz file", str(error)) from error
            if data:
                return data
        if self._unpacker.unused_data or self._file.read(1):
            raise damaged(self._path, "one xz stream", "more bytes after it")
        return b""
