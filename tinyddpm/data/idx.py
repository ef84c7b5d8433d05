"""The IDX format of the MNIST files (LeCun et al., "The MNIST database"), plain or in gzip.

    00 00 08 d        magic: two zeros, 08 for unsigned bytes, d dimensions
    n₁ … n_d          d sizes, 32 bits each, most significant byte first
    n₁ ⋯ n_d bytes    and then the end of the file

Nothing a file says about itself is believed: no more is read than the header promises, plus one
byte to see that nothing follows, and the header may not promise more than ``MAX_BYTES``.
"""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path
from typing import BinaryIO

import numpy as np

from tinyddpm.data.dataset import ByteArray
from tinyddpm.errors import DataError

MAX_BYTES = 2**30  # MNIST's training images are 47 MB
_BLOCK = 2**20
_GZIP_MAGIC = b"\x1f\x8b"


def read_images(path: Path) -> ByteArray:
    """Return the images in ``path``, (N, H, W, 1).

    Raises:
        DataError: the file cannot be read or is not whole IDX of three dimensions.
    """
    return _read(path, ndim=3)[..., None]


def read_labels(path: Path) -> ByteArray:
    """Return the labels in ``path``, (N,).

    Raises:
        DataError: the file cannot be read or is not whole IDX of one dimension.
    """
    return _read(path, ndim=1)


def _read(path: Path, ndim: int) -> ByteArray:
    """Return the array of ``ndim`` dimensions in ``path``, packed or not (its first bytes tell)."""
    try:
        with path.open("rb") as file:
            packed = file.read(2) == _GZIP_MAGIC
            file.seek(0)
            if not packed:
                return _parse(path, file, ndim)
            with gzip.open(file) as unpacked:
                return _parse(path, unpacked, ndim)
    except EOFError as error:
        raise _damaged(path, "a whole gzip file", "one that is cut short") from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise _damaged(path, "a sound gzip file", str(error)) from error
    except OSError as error:
        raise DataError(f"cannot read {path}", cause=error.strerror or str(error)) from error


def _parse(path: Path, stream: BinaryIO | gzip.GzipFile, ndim: int) -> ByteArray:
    magic = bytes([0, 0, 8, ndim])
    header = _read_at_most(stream, 4 + 4 * ndim)
    if header[:4] != magic:
        found = header[:4].hex(" ") or "an empty file"
        raise _damaged(path, f"IDX magic {magic.hex(' ')}", found)
    if len(header) < 4 + 4 * ndim:
        raise _damaged(path, f"a header of {4 + 4 * ndim} bytes", f"{len(header)} bytes")

    shape = tuple(int(size) for size in np.frombuffer(header, ">u4", offset=4))
    declared = math.prod(shape)
    if not 0 < declared <= MAX_BYTES:
        raise _damaged(path, f"1 to {MAX_BYTES} bytes of data", f"a header for {shape}")

    body = _read_at_most(stream, declared + 1)
    if len(body) != declared:
        found = "more" if len(body) > declared else str(len(body))
        raise _damaged(path, f"{declared} bytes of data after the header", found)
    return np.frombuffer(body, np.uint8).reshape(shape)


def _read_at_most(stream: BinaryIO | gzip.GzipFile, limit: int) -> bytearray:
    """Read up to ``limit`` bytes in blocks: memory follows what is there, not what is promised."""
    data = bytearray()
    while len(data) < limit and (block := stream.read(min(_BLOCK, limit - len(data)))):
        data += block
    return data


def _damaged(path: Path, expected: str, found: str) -> DataError:
    return DataError(
        f"{path} is damaged or is another file",
        cause=f"expected {expected}, found {found}",
        remedy="delete it and fetch it again",
    )
