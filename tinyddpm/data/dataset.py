"""A data set in memory: bytes, as they are stored, with their labels and a fingerprint."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from tinyddpm.errors import DataError

ByteArray = npt.NDArray[np.uint8]
Split = Literal["train", "test"]

DIGITS = tuple("0123456789")


@dataclass(frozen=True, eq=False)
class Dataset:
    """Images and their labels, not to be written to.

    Attributes:
        name: what the set is called.
        images: (N, H, W, C) uint8, at least one.
        labels: (N,) uint8, or None where there are none.
        class_names: the name of each label, if there are labels.
        folder: the folder, or the one file, that it was read from, if it was.
        notices: what a user should know of how it was read, a line each.

    Raises:
        DataError: the arrays are not of these shapes and types.
    """

    name: str
    images: ByteArray = field(repr=False)
    labels: ByteArray | None = field(default=None, repr=False)
    class_names: tuple[str, ...] = ()
    folder: Path | None = None
    notices: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse what is not a data set."""
        if self.images.ndim != 4 or self.images.dtype != np.uint8 or self.images.size == 0:
            raise DataError(
                f"{self._title}: images must be bytes of shape (N, H, W, C), none of them 0",
                cause=f"got {_kind(self.images)}",
            )
        if self.labels is None:
            return
        if self.labels.shape != self.images.shape[:1] or self.labels.dtype != np.uint8:
            raise DataError(
                f"{self._title}: {len(self.images)} images need as many bytes of labels",
                cause=f"got {_kind(self.labels)}",
            )
        if self.class_names and self.labels.max() >= len(self.class_names):
            raise DataError(
                f"{self._title}: labels must lie in 0 … {len(self.class_names) - 1}",
                cause=f"got {self.labels.max()}",
            )

    @property
    def _title(self) -> str:
        """What an error calls it: by where it was read from, if that is known."""
        return f"data set {self.name}" + (f" in {self.folder}" if self.folder else "")

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256, in hex, of the shapes and bytes of the images and labels."""
        digest = hashlib.sha256()
        for array in (self.images, self.labels):
            if array is not None:
                digest.update(repr(array.shape).encode())
                digest.update(np.ascontiguousarray(array).reshape(-1).data)
        return digest.hexdigest()


def _kind(array: npt.NDArray[Any]) -> str:
    return f"{array.dtype} of shape {array.shape}"
