"""Data sets: the digits built in, and the ones read from files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tinyddpm.data.dataset import Dataset, Split
from tinyddpm.data.glyphs import glyphs as draw_glyphs
from tinyddpm.data.mnist import FASHION_MNIST, MNIST, load_idx
from tinyddpm.errors import DataError, UsageError

__all__ = ["LOADERS", "Dataset", "Split", "load"]


def _load_glyphs(split: Split, data_dir: Path | None) -> Dataset:
    if data_dir is not None:
        raise UsageError(
            "data set glyphs is built in and reads no folder",
            cause=f"a data folder was given: {data_dir}",
            remedy="leave out --data-dir",
        )
    return draw_glyphs(split=split)


LOADERS: dict[str, Callable[[Split, Path | None], Dataset]] = {
    "glyphs": _load_glyphs,
    "mnist": lambda split, data_dir: load_idx(MNIST, split, data_dir),
    "fashion-mnist": lambda split, data_dir: load_idx(FASHION_MNIST, split, data_dir),
}


def load(name: str, *, split: Split = "train", data_dir: Path | None = None) -> Dataset:
    """Return the ``split`` of data set ``name``, one of ``LOADERS``.

    Args:
        name: glyphs, mnist or fashion-mnist.
        split: train or test.
        data_dir: a folder that holds the files; by default ``$TINYDDPM_DATA/<name>``, then the
            cache, then the network.

    Raises:
        DataError: no such data set or split, or its files are missing, damaged or out of reach.
        StorageError: the cache cannot be written to.
        UsageError: ``data_dir`` was given for a data set that reads no files.
    """
    if name not in LOADERS:
        raise DataError(f"unknown data set {name!r}", remedy=", ".join(LOADERS))
    if split not in {"train", "test"}:
        raise DataError(f"unknown split {split!r}", remedy="train or test")
    return LOADERS[name](split, data_dir)
