"""Generating many images of a run, and keeping them with it."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, final

import numpy as np

import tinyddpm
from tinyddpm.arrays import IntArray, to_host
from tinyddpm.data.dataset import ByteArray
from tinyddpm.data.pixels import to_bytes
from tinyddpm.diffusion.sampling import SampleStep, last_image
from tinyddpm.evaluation.chunks import CHUNK, ChunkFolder
from tinyddpm.training.model import TrainedModel, Walk


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How images are generated.

    Attributes:
        steps: of the reverse chain.
        eta: of DDIM; None: ancestral sampling.
        seed: of the noise.
    """

    steps: int
    eta: float | None
    seed: int

    @property
    def name(self) -> str:
        """The walk in words."""
        walk = "ancestral" if self.eta is None else f"DDIM with η = {self.eta:g}"
        return f"{self.steps} steps, {walk}, seed {self.seed}"


@final
class KeptSamples:
    """The images of ``trained``, in a folder that lies with the run of ``checkpoint``.

    Args:
        trained: the model.
        checkpoint: the file that it comes from.
        sampling: how it is sampled.
        labels: for which a network with classes is asked, over and over.
        threads: 0 means one for each core.

    Attributes:
        path: of the folder.
    """

    def __init__(
        self,
        trained: TrainedModel,
        checkpoint: Path,
        sampling: Sampling,
        labels: IntArray,
        threads: int = 0,
    ) -> None:
        self._trained, self._sampling, self._labels = trained, sampling, labels
        self._threads = threads
        self._folder = _folder(trained, checkpoint, sampling, labels)
        self.path = self._folder.path

    def calls(self, count: int) -> int:
        """Return the steps of chunks that have yet to be taken for ``count`` images."""
        return len(self._folder.missing(count)) * self._sampling.steps

    def collect(self, count: int, progress: Callable[[], None] = lambda: None) -> ByteArray:
        """Return ``count`` images (count, H, W, C); ``progress`` is called after each of the calls.

        Raises:
            StorageError: the folder cannot be written to.
        """
        with self._walks() as walk:

            def generate(first: int) -> ByteArray:
                steps = _walk(self._trained, walk, self._labels, first)
                return to_bytes(to_host(last_image(steps, lambda _: progress())))

            return self._folder.collect(count, generate)

    def seconds_a_call(self) -> float:
        """Time one step of a chunk, the second of a walk: the first is slow."""
        with self._walks() as walk:
            steps = _walk(self._trained, walk, self._labels, 0)
            to_host(next(steps).x)  # a GPU is waited for
            begun = time.perf_counter()
            to_host(next(steps).x)
            return time.perf_counter() - begun

    def _walks(self) -> AbstractContextManager[Walk]:
        """What walks to CHUNK images."""
        steps, eta, seed = self._sampling.steps, self._sampling.eta, self._sampling.seed
        return self._trained.walks(CHUNK, steps=steps, eta=eta, seed=seed, threads=self._threads)


def _folder(
    trained: TrainedModel, checkpoint: Path, sampling: Sampling, labels: IntArray
) -> ChunkFolder:
    """The folder of these images; what they are a function of is in its name."""
    settings: dict[str, Any] = {
        **asdict(sampling),
        "weights_sha256": _sha256(to_host(trained.network.parameters.value)),
        "chain": asdict(trained.config.diffusion),
        "labels_sha256": _sha256(labels) if trained.config.network.classes else None,
        "chunk": CHUNK,
        "shard": trained.config.shard,
        "device": trained.device,
        "tinyddpm": tinyddpm.__version__,
    }
    home = checkpoint.absolute().parent
    root = (home.parent if home.name == "checkpoints" else home) / "samples"
    name = f"quality-{trained.step}-{sampling.steps}-{sampling.seed}"
    return ChunkFolder(root, name, settings, trained.image_shape)


def _walk(trained: TrainedModel, walk: Walk, labels: IntArray, first: int) -> Iterator[SampleStep]:
    """Walk from noise to the CHUNK images from number ``first`` on."""
    asked = labels[(first + np.arange(CHUNK)) % len(labels)]
    return walk(first, asked if trained.config.network.classes else None)


def _sha256(array: IntArray) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).data).hexdigest()
