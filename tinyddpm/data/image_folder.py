"""A data set from a folder of pictures.

It is made of all PNG and JPEG files in the folder and in those below, in the order of their paths,
which is the same everywhere. Names that begin with a dot are passed over. If every picture lies in
a subfolder, the subfolders are the classes. If there are both a folder ``train`` and a folder
``test``, they are the two splits; otherwise all is for training.

The images are grey or RGB, as asked for. By default they are grey if every file is stored as grey,
and RGB otherwise. Their size is the one asked for. By default it is their own, if all are squares
of one size that is at most 64 and a multiple of 4. Otherwise it is 32, or the largest multiple of 4
below 32 that enlarges none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path

import numpy as np

from tinyddpm.data.dataset import ByteArray, Dataset, Split
from tinyddpm.data.picture import EXTENSIONS, BadPictureError, Header, read_header, read_square
from tinyddpm.errors import DataError

MAX_BYTES = 2**33
LARGEST_OWN = 64  # a larger image costs more than a CPU gives
USUAL = 32

_STEP = 4  # sizes that a network of three levels can halve twice
_NAMED = 10  # bad files that a message names
_CLASSES = 256  # labels are bytes


def load_folder(
    path: Path,
    split: Split = "train",
    *,
    image_size: int | None = None,
    channels: int | None = None,
    skip_bad: bool = False,
) -> Dataset:
    """Return the pictures in ``path``, each cut and resized to a square.

    Args:
        path: the folder.
        split: train or test.
        image_size: height and width in pixels; chosen from the pictures if None.
        channels: 1 or 3, grey or RGB; chosen from the pictures if None.
        skip_bad: leave out files that cannot be read, rather than refuse them all.

    Raises:
        DataError: there are no pictures, some cannot be read, or there are too many for memory.
    """
    root = _root(path, split)
    files, faults = _find(root)
    headers = _headers(files, faults)
    if not headers:
        raise _nothing(root, faults)
    grey = channels == 1 if channels else all(header.grey for header in headers.values())
    size = image_size or fitting_size(root, list(headers.values()))
    images, read = _read(root, list(headers), size, grey=grey, faults=faults)
    total = len(read) + len(faults)
    if faults and not (skip_bad and read):
        raise DataError(
            f"{len(faults)} of {total} files in {root} cannot be read",
            cause=_listed(root, faults),
            remedy="repair or remove them, or leave them out with --skip-bad",
        )
    labels, class_names, notices = _labels(root, read)
    notices += _told(root, faults, total, [headers[file] for file in read], images)
    return Dataset(path.resolve().name, images, labels, class_names, path, tuple(notices))


def fitting_size(root: Path, headers: Sequence[Header]) -> int:
    """Return the size in pixels that suits pictures with these ``headers``.

    Raises:
        DataError: the smallest of them is smaller than 4 pixels.
    """
    sizes = {(header.width, header.height) for header in headers}
    smallest = min(header.side for header in headers)
    if sizes == {(smallest, smallest)} and smallest <= LARGEST_OWN and smallest % _STEP == 0:
        return smallest
    if smallest < _STEP:
        raise DataError(
            f"pictures in {root} are too small to train on",
            cause=f"expected at least {_STEP}×{_STEP} pixels, found a side of {smallest}",
            remedy="larger ones, or --image-size N, to which they are enlarged",
        )
    return min(USUAL, smallest // _STEP * _STEP)


def _root(path: Path, split: Split) -> Path:
    if all((path / part).is_dir() for part in ("train", "test")):
        return path / split
    if split == "test":
        raise DataError(
            f"{path} has no test pictures",
            remedy=f"move the pictures to train with into {path / 'train'} and the others into "
            f"{path / 'test'}",
        )
    return path


def _find(root: Path) -> tuple[list[Path], dict[Path, str]]:
    """Return the files with a picture's name, in order, and what could not be looked into."""
    files, faults = [], {}
    seen: set[tuple[int, int]] = set()
    folders = [root]
    while folders:
        folder = folders.pop()
        try:
            status = folder.stat()
            if (status.st_dev, status.st_ino) in seen:  # by a link, perhaps round in a circle
                faults[folder] = "it leads to a folder that has been read already"
                continue
            seen.add((status.st_dev, status.st_ino))
            shown = [entry for entry in folder.iterdir() if not entry.name.startswith(".")]
            folders += sorted((entry for entry in shown if entry.is_dir()), reverse=True)
            files += [e for e in shown if e.suffix.lower() in EXTENSIONS and not e.is_dir()]
        except OSError as error:
            faults[folder] = error.strerror or str(error)
    return sorted(files, key=lambda file: file.relative_to(root).parts), faults


def _headers(files: list[Path], faults: dict[Path, str]) -> dict[Path, Header]:
    """Return the header of each of ``files``; what fails is added to ``faults``."""
    headers = {}
    for file in files:
        try:
            headers[file] = read_header(file)
        except BadPictureError as error:
            faults[file] = str(error)
    return headers


def _read(
    root: Path, files: Sequence[Path], size: int, *, grey: bool, faults: dict[Path, str]
) -> tuple[ByteArray, list[Path]]:
    """Return the squares and the files they are from; what fails is added to ``faults``."""
    shape = (len(files), size, size, 1 if grey else 3)
    if np.prod(shape, dtype=float) > MAX_BYTES:
        raise DataError(
            f"{len(files):,} pictures of {size}×{size} pixels in {root} are too many",
            cause=f"expected at most {MAX_BYTES:,} bytes in memory",
            remedy="fewer pictures, or a smaller --image-size",
        )
    images = np.empty(shape, np.uint8)
    read: list[Path] = []
    for file in files:
        try:
            images[len(read)] = read_square(file, size, grey=grey)
        except BadPictureError as error:
            faults[file] = str(error)
        else:
            read.append(file)
    return images[: len(read)], read


def _labels(
    root: Path, files: Sequence[Path]
) -> tuple[ByteArray | None, tuple[str, ...], list[str]]:
    """Return labels, the names of the classes and, if there are none, why."""
    parts = [file.relative_to(root).parts for file in files]
    loose = sum(len(path) == 1 for path in parts)
    class_names = sorted({path[0] for path in parts if len(path) > 1})
    if not class_names:
        return None, (), []
    if loose:
        return None, (), [f"no classes: {loose} of {len(files)} pictures lie in no subfolder"]
    if len(class_names) > _CLASSES:
        return None, (), [f"no classes: {len(class_names)} subfolders are more than {_CLASSES}"]
    number = {name: label for label, name in enumerate(class_names)}
    labels = np.array([number[path[0]] for path in parts], np.uint8)
    return labels, tuple(class_names), []


def _told(
    root: Path,
    faults: Mapping[Path, str],
    total: int,
    headers: Sequence[Header],
    images: ByteArray,
) -> list[str]:
    """Return what was done to the pictures, for the user to know."""
    size, channels = images.shape[2:]
    notices = []
    if faults:
        listed = _listed(root, faults)
        notices.append(f"{len(faults)} of {total} files in {root} are left out: {listed}")
    if any((header.width, header.height) != (size, size) for header in headers):
        enlarged = sum(header.side < size for header in headers)
        note = f"pictures are cut to squares and resized to {size}×{size} pixels"
        notices.append(f"{note}, {enlarged} of them enlarged" if enlarged else note)
    grey = [header.grey for header in headers]
    if channels == 3 and any(grey):
        note = "grey pictures are read as RGB"
        notices.append(note if all(grey) else f"{note}, for others have colours")
    if channels == 1 and not all(grey):
        notices.append("pictures with colours are read as grey")
    return notices


def _listed(root: Path, faults: Mapping[Path, str]) -> str:
    """Name the bad files, the first of many."""
    lines = [f"{path.relative_to(root)}: {fault}" for path, fault in islice(faults.items(), _NAMED)]
    more = len(faults) - _NAMED
    return "; ".join(lines) + (f"; and {more} more" if more > 0 else "")


def _nothing(root: Path, faults: Mapping[Path, str]) -> DataError:
    looked = f"looked for {', '.join(EXTENSIONS)} in it and the folders below"
    return DataError(
        f"there are no pictures in {root}",
        cause=f"{looked}; {_listed(root, faults)}" if faults else looked,
        remedy="a folder with PNG or JPEG files",
    )
