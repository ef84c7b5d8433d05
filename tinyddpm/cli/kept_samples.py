"""Generating many images of a run, and keeping them with it."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import tinyddpm
from tinyddpm.arrays import IntArray, to_host
from tinyddpm.cli.messages import say
from tinyddpm.cli.progress import Progress, duration
from tinyddpm.data.dataset import ByteArray
from tinyddpm.data.pixels import to_bytes
from tinyddpm.diffusion.guidance import guided_model
from tinyddpm.diffusion.sampling import Model, SampleStep, last_image
from tinyddpm.errors import UsageError
from tinyddpm.evaluation.chunks import CHUNK, ChunkFolder
from tinyddpm.training.model import Denoiser, TrainedModel

LONG = 1000  # steps of chunks, from which on it is said beforehand how long they will take


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


def check_steps(steps: int | None, T: int) -> int:
    """Return ``steps``, all T unless given.

    Raises:
        UsageError: it is not a number of steps of this chain.
    """
    if steps is not None and not 1 <= steps <= T:
        raise UsageError(f"--steps must be from 1 to {T}: got {steps}")
    return T if steps is None else steps


def kept_samples(
    trained: TrainedModel,
    checkpoint: Path,
    count: int,
    sampling: Sampling,
    labels: IntArray,
    threads: int,
) -> tuple[ByteArray, Path]:
    """Return ``count`` images of ``trained`` (count, H, W, C), and the folder that keeps them.

    The folder lies with the run of ``checkpoint``. A network with classes is asked for ``labels``,
    over and over.
    """
    folder = _folder(trained, checkpoint, sampling, labels)
    calls = len(folder.missing(count)) * sampling.steps
    with (
        trained.denoiser(threads) as denoiser,
        Progress(f"sampling {count:,}", calls) as progress,
    ):
        walk = partial(_walk, trained, denoiser, sampling, labels)
        if calls >= LONG:
            _foretell(walk, calls, folder.path)

        def generate(first: int) -> ByteArray:
            x = last_image(walk(first), lambda _: progress.advance())
            return to_bytes(to_host(x))

        return folder.collect(count, generate), folder.path


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


def _walk(
    trained: TrainedModel, denoiser: Denoiser, sampling: Sampling, labels: IntArray, first: int
) -> Iterator[SampleStep]:
    """Walk from noise to the CHUNK images from number ``first`` on."""
    chain = trained.diffusion.respace(sampling.steps)
    model: Model = denoiser
    classes = trained.config.network.classes
    if classes:
        asked = labels[(first + np.arange(CHUNK)) % len(labels)]
        model = guided_model(denoiser, asked, null_label=classes, weight=0.0)
    eta = sampling.eta
    steps_of = chain.sample_steps if eta is None else partial(chain.ddim_steps, eta=eta)
    return steps_of(
        model,
        (CHUNK, *trained.image_shape),
        seed=sampling.seed,
        first_sample=first,
        device=trained.device,
    )


def _foretell(walk: Callable[[int], Iterator[SampleStep]], calls: int, folder: Path) -> None:
    """Time one step, the second of a walk, and say what is to be expected."""
    steps = walk(0)
    next(steps)
    begun = time.perf_counter()
    next(steps)
    to_come = duration(calls * (time.perf_counter() - begun))
    say(
        f"{calls:,} steps of {CHUNK} images, about {to_come}; a stop costs no more than the last "
        f"{CHUNK}, the others are kept in {folder}"
    )


def _sha256(array: IntArray) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).data).hexdigest()
