"""Data sets: the digits built in, those known by name, and a user's own pictures and arrays."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from pathlib import Path

from tinyddpm.data.array_file import load_array
from tinyddpm.data.cifar10 import load_cifar10
from tinyddpm.data.dataset import Dataset, Split
from tinyddpm.data.download import Tell, tell_nobody
from tinyddpm.data.glyphs import glyphs as draw_glyphs
from tinyddpm.data.mnist import FASHION_MNIST, MNIST, load_idx
from tinyddpm.errors import DataError, UsageError

__all__ = ["LOADERS", "Dataset", "Split", "canonical", "load"]


def _load_glyphs(split: Split, data_dir: Path | None, _tell: Tell) -> Dataset:
    if data_dir is not None:
        raise UsageError(
            "data set glyphs is built in and reads no folder",
            cause=f"a data folder was given: {data_dir}",
            remedy="leave out --data-dir",
        )
    return draw_glyphs(split=split)


LOADERS: dict[str, Callable[[Split, Path | None, Tell], Dataset]] = {
    "glyphs": _load_glyphs,
    "mnist": lambda split, data_dir, tell: load_idx(MNIST, split, data_dir, tell=tell),
    "fashion-mnist": lambda split, data_dir, tell: load_idx(
        FASHION_MNIST, split, data_dir, tell=tell
    ),
    "cifar10": lambda split, data_dir, tell: load_cifar10(split, data_dir, tell=tell),
}


def load(
    name: str,
    *,
    split: Split = "train",
    data_dir: str | Path | None = None,
    image_size: int | None = None,
    channels: int | None = None,
    skip_bad: bool = False,
    tell: Tell = tell_nobody,
) -> Dataset:
    """Return the ``split`` of data set ``name``.

    Args:
        name: one of ``LOADERS``, or the path of a folder of pictures (see ``data.image_folder``)
            or of a .npz or .npy file (see ``data.array_file``).
        split: train or test.
        data_dir: a folder that holds the files; by default ``$TINYDDPM_DATA/<name>``, then the
            cache, then the network. If ``name`` is a path: where that data set is now.
        image_size: for a folder of pictures, the height and width in pixels that they get.
        channels: for a folder of pictures, 1 to read all of them as grey, 3 as RGB.
        skip_bad: for a folder of pictures, leave out those that cannot be read.
        tell: told of each download.

    Raises:
        MissingFilesError: ``data_dir`` lacks files of a set known by name.
        DataError: no such data set or split, or its files are missing, damaged or out of reach.
        StorageError: the cache cannot be written to.
        UsageError: ``data_dir`` was given for a data set that reads no files.
    """
    if split not in {"train", "test"}:
        raise DataError(f"unknown split {split!r}", remedy="train or test")
    folder = None if data_dir is None else Path(data_dir)
    if name in LOADERS:
        return LOADERS[name](split, folder, tell)
    path = folder or Path(name)
    if not name or not path.exists():  # the path "" would be the present folder
        raise DataError(
            f"unknown data set {name!r}",
            cause=f"there is no file or folder {path} either" if name else "it has no name",
            remedy=f"{_guess(name)}{', '.join(LOADERS)}, a folder of pictures, or a .npz or .npy "
            "file",
        )
    if path.is_dir():
        # Pillow takes a while to import, and the other data sets do without it.
        from tinyddpm.data.image_folder import load_folder  # noqa: PLC0415

        return load_folder(path, split, image_size=image_size, channels=channels, skip_bad=skip_bad)
    return load_array(path, split)


def _guess(name: str) -> str:
    """What ``name`` was probably meant to be; nothing if no known name is near."""
    near = difflib.get_close_matches(name.lower(), LOADERS, n=1)
    return f"{near[0]}, if that was meant; known are " if near else ""


def canonical(name: str) -> str:
    """Return ``name`` if it is that of a known data set, else the absolute path that it means.

    With it a data set is found again from another folder. A folder that has the name of a known
    set is meant by ``./mnist``.
    """
    is_path = name and name not in LOADERS and Path(name).exists()
    return str(Path(name).absolute()) if is_path else name
