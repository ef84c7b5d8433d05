"""Real digits: what a classifier is fitted to, and what samples are held against."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tinyddpm.arrays import IntArray
from tinyddpm.data.dataset import ByteArray, Dataset
from tinyddpm.errors import DataError
from tinyddpm.evaluation.lenet import CLASSES, IMAGE_SHAPE


class Digits(NamedTuple):
    """Images of digits with their values."""

    images: ByteArray  # (N, 28, 28, 1)
    labels: IntArray  # (N,) 0 … 9


def digits_of(dataset: Dataset) -> Digits:
    """Return the digits in ``dataset``.

    Raises:
        DataError: it holds anything else.
    """
    check_shape(dataset.images.shape)
    if dataset.labels is None or dataset.labels.max() >= CLASSES:
        raise DataError(f"data set {dataset.name} has no labels from 0 to {CLASSES - 1}")
    return Digits(dataset.images, dataset.labels.astype(np.int64))


def check_shape(shape: tuple[int, ...]) -> None:
    """Raise unless images of ``shape`` (N, H, W, C) may be digits.

    Raises:
        DataError: they are not grey images of 28×28 pixels.
    """
    if shape[1:] != IMAGE_SHAPE:
        raise DataError(
            "the quality of samples is measured by a classifier of MNIST: 28×28 grey pixels",
            cause=f"these images are {'×'.join(map(str, shape[1:]))}",
        )
