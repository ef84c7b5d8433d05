"""The data that a run was trained on, found again."""

from __future__ import annotations

from pathlib import Path

from tinyddpm import data
from tinyddpm.data import Dataset, Split
from tinyddpm.training.config import RunConfig


def data_of(config: RunConfig, split: Split = "train") -> Dataset:
    """Return the run's data set from where it was or, if that folder is gone, the usual places."""
    folder = Path(config.data_dir)
    known = config.data_dir and folder.is_dir()
    return data.load(config.data, split=split, data_dir=folder if known else None)
