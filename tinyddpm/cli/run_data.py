"""Reading runs and data for a command, and saying what a user should know of how it was done."""

from __future__ import annotations

from pathlib import Path

from tinyddpm import data
from tinyddpm.cli.messages import say
from tinyddpm.cli.options import RUNS
from tinyddpm.cli.sizes import size
from tinyddpm.data import Dataset, Split
from tinyddpm.data.download import RemoteFile
from tinyddpm.data.folders import data_folders
from tinyddpm.errors import MissingFilesError
from tinyddpm.training import run_directory
from tinyddpm.training.config import RunConfig
from tinyddpm.training.run_directory import FoundCheckpoint


def checkpoint_of(run: Path | None) -> FoundCheckpoint:
    """Return the checkpoint of ``run``, by default the newest, and say if it is not the last."""
    found = run_directory.find(run or run_directory.newest(RUNS))
    if found.warning:
        say(f"warning: {found.warning}")
    return found


def tell_download(file: RemoteFile, mirror: str) -> None:
    """Say what is being downloaded: it may take a while."""
    say(f"downloading {file.name}, {size(file.size)}, from {mirror}")


def load_data(
    name: str,
    split: Split = "train",
    data_dir: Path | None = None,
    *,
    image_size: int | None = None,
    channels: int | None = None,
    skip_bad: bool = False,
) -> Dataset:
    """Return the data set that ``data.load`` reads, and say its notices."""
    dataset = data.load(
        name,
        split=split,
        data_dir=data_dir,
        image_size=image_size,
        channels=channels,
        skip_bad=skip_bad,
        tell=tell_download,
    )
    for notice in dataset.notices:
        say(f"note: {notice}")
    return dataset


def data_of(config: RunConfig, split: Split = "train", data_dir: Path | None = None) -> Dataset:
    """Return the run's data set, read as in training.

    It is read from ``data_dir`` if that is given, else from the folder that the run recorded. Where
    that folder is gone, or lacks the split, the set is looked for in the usual places: training
    downloads the training files alone, so that the test files may be missing beside them. But
    training images that lay in a folder of the user's own are not looked for elsewhere.

    Raises:
        MissingFilesError: a folder that the user named lacks files of the set.
        DataError: the set is nowhere, or damaged.
    """

    def read(folder: Path | None) -> Dataset:
        return load_data(
            config.data,
            split,
            folder,
            image_size=config.network.image_size,
            channels=config.network.in_channels,
            skip_bad=config.skip_bad,
        )

    where = Path(config.data_dir)
    if data_dir or not (config.data_dir and where.exists()):
        return read(data_dir)
    try:
        return read(where)
    except MissingFilesError:
        if split == "train" and where not in data_folders(config.data):
            raise
        dataset = read(None)
    if dataset.folder and dataset.folder.absolute() != where:
        say(f"note: {where} lacks the {split} split, which is read from {dataset.folder}")
    return dataset
