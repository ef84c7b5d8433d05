"""Many images, generated in chunks that are kept, so that a stop costs no more than one of them.

Chunk i holds images CHUNK · i … CHUNK · (i + 1) − 1 and is a function of the settings and i alone.
It is always generated whole, even if only some of its images are wanted: the rounding in a network
may depend on how many images it is given at once. The folder's name ends in a hash of the settings,
so that chunks of different settings never mix; ``settings.json`` in it says what they were.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tinyddpm.data.array_file import load_exactly
from tinyddpm.data.dataset import ByteArray
from tinyddpm.errors import DataError
from tinyddpm.files import storage_errors, write_atomically, write_text

CHUNK = 128  # images; a multiple of all presets' shards


def chunk_count(images: int) -> int:
    """Return the number of chunks that hold ``images``."""
    return -(-images // CHUNK)


class ChunkFolder:
    """The chunks of one kind of images.

    Args:
        root: where the folder is, or will be, made.
        name: what its name begins with.
        settings: all that the images are a function of; JSON and nothing else.
        shape: (H, W, C) of an image.
    """

    def __init__(
        self, root: Path, name: str, settings: dict[str, Any], shape: tuple[int, ...]
    ) -> None:
        self.text = json.dumps(settings, indent=2, sort_keys=True)
        digest = hashlib.sha256(self.text.encode()).hexdigest()
        self.path = root / f"{name}-{digest[:8]}"
        self.shape = shape

    def missing(self, images: int) -> list[int]:
        """Return the numbers of the chunks that are yet to be generated for ``images``.

        Raises:
            DataError: a chunk that is there is damaged, or holds something else.
        """
        return [i for i in range(chunk_count(images)) if self._read(i) is None]

    def collect(self, images: int, generate: Callable[[int], ByteArray]) -> ByteArray:
        """Return the first ``images``, (images, H, W, C), and keep what had to be generated.

        ``generate(first)`` returns the CHUNK images from number ``first`` on.

        Raises:
            DataError: a chunk that is there is damaged, or holds something else.
            StorageError: the folder cannot be written to.
        """
        with storage_errors(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
        write_text(self.path / "settings.json", f"{self.text}\n")
        chunks = []
        for i in range(chunk_count(images)):
            chunk = self._read(i)
            if chunk is None:
                chunk = generate(CHUNK * i)
                self._keep(i, chunk)
            chunks.append(chunk)
        return np.concatenate(chunks)[:images]

    def _keep(self, i: int, chunk: ByteArray) -> None:
        write_atomically(self._file(i), lambda file: np.savez_compressed(file, images=chunk))

    def _read(self, i: int) -> ByteArray | None:
        """Chunk ``i``, or None where it is yet to be generated."""
        path = self._file(i)
        if not path.exists():
            return None
        try:
            return load_exactly(path, "images", (CHUNK, *self.shape))
        except DataError as error:
            raise DataError(
                f"the samples kept in {path} cannot be used",
                cause=error.cause or str(error.args[0]),
                remedy="delete it, and they are generated again",
            ) from error

    def _file(self, i: int) -> Path:
        return self.path / f"chunk-{i:05d}.npz"
