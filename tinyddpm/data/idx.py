"""The IDX format of the MNIST files (LeCun et al., "The MNIST database"), plain or packed.

    00 00 08 d        magic: two zeros, 08 for unsigned bytes, d dimensions
    n₁ … n_d          d sizes, 32 bits each, most significant byte first
    n₁ ⋯ n_d bytes    and then the end of the file

Nothing a file says about itself is believed: no more is read than the header promises, plus one
byte to see that nothing follows, and the header may not promise more than ``MAX_BYTES``.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from tinyddpm.data.dataset import ByteArray
from tinyddpm.data.packed import Readable, damaged, open_unpacked, read_at_most

MAX_BYTES = 2**30  # MNIST's training images are 47 MB


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
    with open_unpacked(path) as stream:
        return _parse(path, stream, ndim)


def _parse(path: Path, stream: Readable, ndim: int) -> ByteArray:
    magic = bytes([0, 0, 8, ndim])
    header = read_at_most(stream, 4 + 4 * ndim)
    if header[:4] != magic:
        found = header[:4].hex(" ") or "an empty file"
        raise damaged(path, f"IDX magic {magic.hex(' ')}", found)
    if len(header) < 4 + 4 * ndim:
        raise damaged(path, f"a header of {4 + 4 * ndim} bytes", f"{len(header)} bytes")

    shape = tuple(int(size) for size in np.frombuffer(header, ">u4", offset=4))
    declared = math.prod(shape)
    if not 0 < declared <= MAX_BYTES:
        raise damaged(path, f"1 to {MAX_BYTES} bytes of data", f"a header for {shape}")

    body = read_at_most(stream, declared + 1)
    if len(body) != declared:
        found = "more" if len(body) > declared else str(len(body))
        raise damaged(path, f"{declared} bytes of data after the header", found)
    return np.frombuffer(body, np.uint8).reshape(shape)
