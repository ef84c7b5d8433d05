"""A data set from arrays that NumPy has saved, in a .npz or .npy file.

    images         (N, H, W) or (N, H, W, C), C 1 or 3: bytes, or floats in [0, 1]
    labels         (N,) integers 0 … 255; may be missing
    test_images    likewise, for evaluation; may be missing
    test_labels

The array of a .npy is the images, and so is the only array of a .npz, whatever its name. Floats
become bytes, round(255 x).

Nothing that a file says is believed. A member of the zip may not overlap another, have a name that
is no identifier, or be packed tighter than images are. A header must promise exactly the bytes that
its file has; memory is set aside only then. Objects, which can run code, are not read.
"""

from __future__ import annotations

import math
import os
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt

from tinyddpm.data.dataset import ByteArray, Dataset, Split
from tinyddpm.data.packed import read_at_most
from tinyddpm.errors import DataError
from tinyddpm.zips import check_members

MAX_BYTES = 2**33

_BLOCK = 2**18  # values converted at once
_TIGHTEST = 256  # bytes from one packed byte; images give some tens, a bomb 1000
_HARMLESS = 2**24  # bytes; sorted labels are packed as tightly as a bomb
_REMEDY = "np.savez(FILE, images=images, labels=labels)"
_Values = npt.NDArray[Any]


class _Member(NamedTuple):
    """A .npy file, alone or in a zip: how to open it, and its length."""

    open: Callable[[], Any]
    size: int


class _Refused(ValueError):
    """An array is not one of images or labels; the message says what was expected."""

    def __init__(self, message: str, remedy: str = _REMEDY) -> None:
        super().__init__(message)
        self.remedy = remedy


def load_array(path: Path, split: Split = "train") -> Dataset:
    """Return the data set in ``path``.

    Raises:
        DataError: the file cannot be read, is damaged, or holds no such arrays.
    """
    with _members(path) as members:
        prefix = "test_" if split == "test" else ""
        name = f"{prefix}images"
        if split == "train" and len(members) == 1:
            name = next(iter(members))
        if name not in members:
            raise DataError(
                f"{path} has no array {name!r}",
                cause=f"it holds {', '.join(members)}",
                remedy=f"np.savez(FILE, {name}=..., {prefix}labels=...)",
            )
        images = _image_axes(_read(members[name], name, _image_bytes), name)
        labels, label_name = None, f"{prefix}labels"
        if label_name in members and name != label_name:
            labels = _read(members[label_name], label_name, _label_bytes)
    count = 0 if labels is None else int(labels.max()) + 1
    class_names = tuple(str(label) for label in range(count))
    return Dataset(path.stem, images, labels, class_names, path)


def load_exactly(path: Path, name: str, shape: tuple[int, ...]) -> ByteArray:
    """Return the images called ``name`` in ``path``, which must be of ``shape``.

    Raises:
        DataError: they are not, and nothing of them was read; or the file is damaged.
    """
    with _members(path) as members:
        if name not in members:
            raise _Refused(f"expected an array {name!r}, found {', '.join(members)}")
        return _read(members[name], name, _image_bytes, shape)


@contextmanager
def _members(path: Path) -> Iterator[Mapping[str, _Member]]:
    """Yield the arrays in ``path`` by name; whatever is wrong with them becomes a DataError."""
    if path.exists() and not path.is_file():  # to open a pipe would be to wait for a writer
        raise DataError(f"{path} is not a plain file", remedy=_REMEDY)
    try:
        with path.open("rb") as file:
            magic, size = file.read(6), os.fstat(file.fileno()).st_size
            file.seek(0)
            if magic == b"\x93NUMPY":
                yield {"images": _Member(lambda: file, size)}
            elif magic.startswith(b"PK"):
                with zipfile.ZipFile(file) as archive:
                    yield _members_of(archive, size)
            else:
                raise _Refused("expected a file that np.savez or np.save has written")
    except (DataError, MemoryError):
        raise
    except OSError as error:
        raise DataError(f"cannot read {path}", cause=error.strerror or str(error)) from error
    except _Refused as error:
        raise DataError(f"{path} is refused", cause=str(error), remedy=error.remedy) from error
    except Exception as error:  # zipfile and numpy meet damaged bytes with a dozen types
        raise DataError(
            f"{path} is damaged", cause=str(error) or type(error).__name__, remedy=_REMEDY
        ) from error


def _members_of(archive: zipfile.ZipFile, size: int) -> dict[str, _Member]:
    infos = archive.infolist()
    check_members(infos, size)
    members = {}
    for info in infos:
        name = info.orig_filename.removesuffix(".npy")
        if not name.isidentifier():
            raise _Refused(f"expected names of arrays, found {name!r}")
        if info.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
            raise _Refused(f"expected {name} as np.savez packs it, found another compression")
        if info.file_size > max(_TIGHTEST * info.compress_size, _HARMLESS):
            found = f"{info.file_size} from {info.compress_size}"
            raise _Refused(f"expected at most {_TIGHTEST} bytes of {name} from each, found {found}")
        members[name] = _Member(partial(archive.open, info), info.file_size)
    return members


def _read(
    member: _Member,
    name: str,
    convert: Callable[[_Values, str], ByteArray],
    expected: tuple[int, ...] | None = None,
) -> ByteArray:
    """Return the array of a member, converted to bytes block by block."""
    with member.open() as stream:
        shape, fortran_order, dtype = _header(stream, name)
        count = math.prod(shape)
        if expected not in {None, shape}:
            raise _Refused(f"expected {name} of shape {expected}, found {shape}")
        if min(shape, default=0) < 1 or not 0 < count <= MAX_BYTES:
            raise _Refused(f"expected {name} of 1 to {MAX_BYTES} values, found shape {shape}")
        if stream.tell() + count * dtype.itemsize != member.size:
            raise ValueError(f"{name} of shape {shape}, {dtype}, does not fill its file")
        values = np.empty(count, np.uint8)
        for start in range(0, count, _BLOCK):
            stop = min(start + _BLOCK, count)
            block = read_at_most(stream, (stop - start) * dtype.itemsize)
            if len(block) != (stop - start) * dtype.itemsize:  # one value would fill many places
                raise ValueError(f"{name} is cut short")
            values[start:stop] = convert(np.frombuffer(block, dtype), name)
    return np.ascontiguousarray(values.reshape(shape, order="F" if fortran_order else "C"))


def _header(stream: BinaryIO, name: str) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    if np.lib.format.read_magic(stream) != (1, 0):
        raise _Refused(f"expected {name} in version 1.0 of the format, as np.save writes it")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Python 2's longs
        header = np.lib.format.read_array_header_1_0(stream)
    shape, fortran_order, dtype = header
    if dtype.hasobject or dtype.kind not in "uif":
        raise _Refused(f"expected {name} of numbers, found {dtype}")
    return shape, fortran_order, dtype


def _image_bytes(values: _Values, name: str) -> ByteArray:
    if values.dtype == np.uint8:
        return values
    if values.dtype.kind != "f":
        raise _Refused(
            f"expected {name} of bytes (uint8) or floats, found {values.dtype}",
            f"save {name}.astype(np.uint8), if they lie in 0 … 255",
        )
    if not ((values >= 0) & (values <= 1)).all():
        found = "NaN" if np.isnan(values).any() else f"{values.min():g} to {values.max():g}"
        raise _Refused(
            f"expected floats in [0, 1] in {name}, found {found}",
            f"save ({name} + 1) / 2, if they lie in [-1, 1]; {name}.astype(np.uint8), if in "
            "0 … 255",
        )
    return np.rint(255 * values.astype(np.float64)).astype(np.uint8)


def _label_bytes(values: _Values, name: str) -> ByteArray:
    if values.dtype.kind not in "ui" or values.min() < 0 or values.max() > 255:
        found = f"{values.dtype} from {values.min()} to {values.max()}"
        raise _Refused(f"expected {name} of integers 0 … 255, found {found}")
    return values.astype(np.uint8)


def _image_axes(images: ByteArray, name: str) -> ByteArray:
    if images.ndim == 3:
        return images[..., None]
    if images.ndim == 4 and images.shape[3] in {1, 3}:
        return images
    found = f"found {images.shape}"
    if images.ndim == 4 and images.shape[1] in {1, 3}:
        found += f"; {name}.transpose(0, 2, 3, 1) has the channels last"
    raise _Refused(f"expected {name} of shape (N, H, W) or (N, H, W, 1 or 3), {found}")
