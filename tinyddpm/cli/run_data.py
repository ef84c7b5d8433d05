"""Reading runs and data for a command, and saying what a user should know of how it was done."""

from __future__ import annotations

from pathlib import Path

from tinyddpm import data
from tinyddpm.cli.messages import say
from tinyddpm.cli.options import RUNS
from tinyddpm.data import Dataset, Split
from tinyddpm.training import run_directory
from tinyddpm.training.config import RunConfig
from tinyddpm.training.run_directory import FoundCheckpoint


def checkpoint_of(run: Path | None) -> FoundCheckpoint:
    """Return the checkpoint of ``run``, by default the newest, and say if it is not the last."""
    found = run_directory.find(run or run_directory.newest(RUNS))
    if found.warning:
        say(f"warning: {found.warning}")
    return found


def load_data(
    name: str,
    split: Split = "train",
    data_dir: Path | None = None,
    *,
    image_size: int | None = None,
    skip_bad: bool = False,
) -> Dataset:
    """Return the data set that ``data.load`` reads, and say its notices."""
    dataset = data.load(
        name, split=split, data_dir=data_dir, image_size=image_size, skip_bad=skip_bad
    )
    for notice in dataset.notices:
        say(f"note: {notice}")
    return dataset


def data_of(config: RunConfig, split: Split = "train", data_dir: Path | None = None) -> Dataset:
    """Return the run's data set, read as in training.

    It is read from ``data_dir`` if that is given, else from where it was or, if that is gone, the
    usual places.
    """
    where = Path(config.data_dir)
    known = where if config.data_dir and where.exists() else None
    return load_data(
        config.data,
        split,
        data_dir or known,
        image_size=config.network.image_size,
        skip_bad=config.skip_bad,
    )
