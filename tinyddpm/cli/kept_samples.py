"""Telling how far the generation of many images is, and beforehand how long it will take."""

from __future__ import annotations

from pathlib import Path

from tinyddpm.arrays import IntArray
from tinyddpm.cli.messages import say
from tinyddpm.cli.progress import Progress, duration
from tinyddpm.data.dataset import ByteArray
from tinyddpm.evaluation.chunks import CHUNK
from tinyddpm.training.kept_samples import KeptSamples, Sampling
from tinyddpm.training.model import TrainedModel

LONG = 1000  # steps of chunks, from which on it is said beforehand how long they will take


def kept_samples(
    trained: TrainedModel,
    checkpoint: Path,
    count: int,
    sampling: Sampling,
    labels: IntArray,
    threads: int,
) -> tuple[ByteArray, Path]:
    """Return ``count`` images of ``trained`` (count, H, W, C), and the folder that keeps them."""
    kept = KeptSamples(trained, checkpoint, sampling, labels, threads)
    calls = kept.calls(count)
    if calls >= LONG:
        to_come = duration(calls * kept.seconds_a_call())
        say(
            f"{calls:,} steps of {CHUNK} images, about {to_come}; a stop costs no more than the "
            f"last {CHUNK}, the others are kept in {kept.path}"
        )
    with Progress(f"sampling {count:,}", calls) as progress:
        return kept.collect(count, progress.advance), kept.path
