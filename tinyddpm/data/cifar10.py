"""CIFAR-10 (Krizhevsky 2009, "Learning multiple layers of features from tiny images").

60,000 colour photographs of 32 × 32 pixels in ten classes, in five training batches and a test
batch. This is the binary version; the Python version is pickles, which can run code and are not
read. A batch is 10,000 rows of

    1 byte label, 1024 bytes red, 1024 green, 1024 blue, each row by row

and may be as it is, packed (``.xz``, ``.gz``), or inside the archive as it is published.

``PARTS`` holds the SHA-256 of every batch, computed from files whose contents had been compared
with git's ids of the same files in public repositories. The archive's size and SHA-256 are those
that independent projects have published beside the MD5 of the data set's own page; a download that
does not have them is thrown away.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from tinyddpm.data.dataset import ByteArray, Dataset, Split
from tinyddpm.data.download import OpenUrl, RemoteFile, Tell, fetch, open_https, tell_nobody
from tinyddpm.data.folders import data_folders
from tinyddpm.data.packed import damaged, read_each
from tinyddpm.data.parts import Part
from tinyddpm.data.tar import read_members
from tinyddpm.errors import DataError, MissingFilesError

NAME = "cifar10"
CLASS_NAMES = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)
BATCH = 10_000  # images in a batch
BATCHES: dict[Split, tuple[str, ...]] = {
    "train": tuple(f"data_batch_{number}.bin" for number in range(1, 6)),
    "test": ("test_batch.bin",),
}
ARCHIVE = RemoteFile(
    "cifar-10-binary.tar.gz",
    170_052_171,
    "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
)
MIRRORS = ("https://www.cs.toronto.edu/~kriz/", "https://cave.cs.toronto.edu/kriz/")

_ROW = 1 + 3 * 32 * 32
_FOLDER = "cifar-10-batches-bin"  # inside the archive, and where it is unpacked
_IN_ALL = 2**28  # the archive unpacks to 184 MB

PARTS = (
    Part(
        "data_batch_1.bin",
        BATCH * _ROW,
        "cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5",
    ),
    Part(
        "data_batch_2.bin",
        BATCH * _ROW,
        "a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed",
    ),
    Part(
        "data_batch_3.bin",
        BATCH * _ROW,
        "bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67",
    ),
    Part(
        "data_batch_4.bin",
        BATCH * _ROW,
        "014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48",
    ),
    Part(
        "data_batch_5.bin",
        BATCH * _ROW,
        "755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add",
    ),
    Part(
        "test_batch.bin",
        BATCH * _ROW,
        "8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b",
    ),
)


def load_cifar10(
    split: Split,
    data_dir: Path | None = None,
    *,
    tell: Tell = tell_nobody,
    open_url: OpenUrl = open_https,
    batch: int = BATCH,
) -> Dataset:
    """Return a split: the test batch, or those of the training batches that are there.

    With ``data_dir`` they must lie in it. Otherwise they are looked for in
    ``data_folders("cifar10")`` and, where there are none, the archive is downloaded into the last.

    Args:
        split: train or test.
        data_dir: a folder with the batches, the archive, or the folder that the archive unpacks to.
        tell: told of a download.
        open_url: how to open a URL.
        batch: images in a batch.

    Raises:
        MissingFilesError: there is no batch in ``data_dir``.
        DataError: there is no batch and none can be had, or one is damaged.
        StorageError: the cache cannot be written to.
    """
    names = BATCHES[split]
    folders = [data_dir] if data_dir else data_folders(NAME)
    found = locate(names, folders)
    if not found and data_dir:
        raise MissingFilesError(
            f"{data_dir} lacks {', '.join(names)}", remedy=_instructions(data_dir)
        )
    if not found:
        found = dict.fromkeys(names, download(folders[-1], tell=tell, open_url=open_url))
    images = np.empty((len(found) * batch, 32, 32, 3), np.uint8)
    labels = np.empty(len(found) * batch, np.uint8)
    for name, content in contents(found, batch * _ROW):
        start = list(found).index(name) * batch
        rows = _rows(found[name], name, content, batch)
        labels[start : start + batch] = rows[:, 0]
        planes = rows[:, 1:].reshape(batch, 3, 32, 32)
        images[start : start + batch] = planes.transpose(0, 2, 3, 1)
    notices = _notices(names, found, len(images))
    folder = next(iter(found.values())).parent
    return Dataset(NAME, images, labels, CLASS_NAMES, folder, notices)


def locate(names: Sequence[str], folders: list[Path]) -> dict[str, Path]:
    """Return the file that holds each batch, if there is one: the batch itself, packed or not, or
    the archive.

    All are from one folder: the one with most of them, or the first of several such.
    """
    return max((_locate_in(folder, names) for folder in folders), key=len)


def contents(found: Mapping[str, Path], most: int) -> Iterator[tuple[str, bytearray]]:
    """Yield each name in ``found`` and its content, up to ``most`` bytes and one more.

    Raises:
        DataError: a file cannot be read or is damaged.
    """
    archived = {name: path for name, path in found.items() if path.name == ARCHIVE.name}
    yield from read_each({k: path for k, path in found.items() if k not in archived}, most)
    for archive in set(archived.values()):
        members = {f"{_FOLDER}/{name}": name for name in archived}
        for member, content in read_members(archive, members, most=most, in_all=_IN_ALL):
            yield members[member], content


def download(folder: Path, *, tell: Tell = tell_nobody, open_url: OpenUrl = open_https) -> Path:
    """Return the archive in ``folder``, fetched if it is not there.

    Raises:
        DataError: no mirror gave it.
        StorageError: the folder cannot be written to.
    """
    try:
        return fetch(ARCHIVE, MIRRORS, folder, tell=tell, open_url=open_url)
    except DataError as error:
        raise DataError(
            f"data set {NAME} is not on this machine and cannot be downloaded",
            cause=f"{error.args[0]}: {error.cause}",
            remedy=_instructions(folder),
        ) from error


def _locate_in(folder: Path, names: Sequence[str]) -> dict[str, Path]:
    """The batches in ``folder``; its archive where they are not all there."""
    loose = {}
    for name in names:
        places = (
            inner / (name + packing)
            for inner in (folder, folder / _FOLDER)
            for packing in ("", ".xz", ".gz")
        )
        path = next((place for place in places if place.is_file()), None)
        if path:
            loose[name] = path
    archive = folder / ARCHIVE.name
    if len(loose) < len(names) and archive.is_file():
        return dict.fromkeys(names, archive)
    return loose


def _rows(path: Path, name: str, content: bytearray, batch: int) -> ByteArray:
    """Return a batch as (batch, 3073): label and image in each row."""
    size = batch * _ROW
    if len(content) != size:
        found = "more" if len(content) > size else str(len(content))
        raise damaged(path, f"{size} bytes of {name}", found)
    rows = np.frombuffer(content, np.uint8).reshape(batch, _ROW)
    if rows[:, 0].max() >= len(CLASS_NAMES):
        expected = f"labels 0 … {len(CLASS_NAMES) - 1} in {name}"
        raise damaged(path, expected, str(rows[:, 0].max()))
    return rows


def _notices(names: tuple[str, ...], found: Mapping[str, Path], images: int) -> tuple[str, ...]:
    missing = [name for name in names if name not in found]
    if not missing:
        return ()
    return (
        f"{NAME} is there in part: {images:,} images from {len(found)} of {len(names)} training "
        f"batches, without {', '.join(missing)}; tinyddpm data fetch {NAME} gets the whole set",
    )


def _instructions(folder: Path) -> str:
    return f"put {ARCHIVE.name} (the binary version) into {folder}; it is at {MIRRORS[0]}"
