"""Time to quality: how long a network trains on MNIST, and what its samples are worth then.

    fixed beforehand    the recipe, its length included; nothing stops because the samples are good
    the clock           runs from the first touch of the data, reading the files included, to the
                        last checkpoint written; no previews, no checkpoints on the way
    after the clock     samples are generated and judged (see ``evaluation.sample_quality``)
    seeds               0, 1, …: each trains, and is sampled, with its own; mean and spread

That is how the trusted speed records are kept (airbench, MLPerf): the quality is that of the last
weights, whatever it is, and not the best of several looks.

The folder of the bench holds a run, ``seed-0/``, and a record, ``seed-0.json``, for each seed. The
record is written when the training has ended, and again when the samples are judged. So a bench
that was stopped goes on where it was. Only a training that was stopped begins anew, because its
clock must be one sitting. Records of another machine or configuration are refused.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from time import perf_counter
from typing import NamedTuple, Protocol, final

import numpy as np

from tinyddpm import data
from tinyddpm.benchmark import quality_record
from tinyddpm.benchmark.flops import BACKWARD, forward_products
from tinyddpm.benchmark.quality_record import Record, Verdict
from tinyddpm.benchmark.quality_settings import DATA, QualitySettings
from tinyddpm.data import Dataset, Split
from tinyddpm.data.download import RemoteFile
from tinyddpm.data.folders import data_folders
from tinyddpm.data.mnist import MNIST, locate
from tinyddpm.errors import CheckpointError, DataError, UsageError
from tinyddpm.evaluation import classifier as classifiers
from tinyddpm.evaluation.digits import Digits, digits_of
from tinyddpm.evaluation.sample_quality import STAGES, measure
from tinyddpm.parallel import Workers
from tinyddpm.training import loop, run_directory
from tinyddpm.training.config import RunConfig
from tinyddpm.training.kept_samples import KeptSamples, Sampling
from tinyddpm.training.model import from_checkpoint
from tinyddpm.training.run_directory import RunDirectory
from tinyddpm.training.step import StepReport

LAST = 500  # steps that the loss is taken over


class Bar(Protocol):
    """What is told of each step done."""

    def advance(self, detail: str = "") -> None:
        """One more is done; ``detail`` says what came of it."""


class Watcher(NamedTuple):
    """Who is told how far things are: ``say`` lines, and ``show(label, steps)`` a bar."""

    say: Callable[[str], None]
    show: Callable[[str, int], AbstractContextManager[Bar]]


@final
class TimeToQuality:
    """The measurement, and the folder that keeps it.

    Args:
        settings: what to measure.
        out: the folder.
        watcher: who is told how far it is.

    Attributes:
        conditions: machine, configuration and judge, as they are in each record.

    Raises:
        UsageError: the settings ask for what cannot be.
    """

    def __init__(self, settings: QualitySettings, out: Path, watcher: Watcher) -> None:
        self._settings, self._out, self._watcher = settings, out, watcher
        self._classifier = classifiers.shipped()
        self.conditions = settings.conditions(self._classifier)

    def records(self) -> list[Record]:
        """Return the record of each seed; what has no record yet is measured.

        Raises:
            UsageError: the folder holds records of other conditions, or other runs.
            DataError: MNIST's files are missing, damaged, or not MNIST's.
            CheckpointError: the end of a training that has a record cannot be read any more.
            RunLockedError: another process is training one of the seeds.
            StorageError: a file could not be written.
        """
        records = [self._read(seed) for seed in range(self._settings.seeds)]
        if any(record is None or record.verdict is None for record in records):
            self._see_to_data()
        return [self._complete(seed, record) for seed, record in enumerate(records)]

    def _complete(self, seed: int, record: Record | None) -> Record:
        """What is left to do for a seed, written down at each end."""
        if record is None:
            record = self._train(seed)
            quality_record.write(self._record_path(seed), record)
        if record.verdict is None:
            record = replace(record, verdict=self._judge(seed))
            quality_record.write(self._record_path(seed), record)
        return record

    def _train(self, seed: int) -> Record:
        """Train by the clock."""
        config, run = self._settings.config(seed), self._run(seed)
        execution = loop.Execution(self._settings.threads, save_every=0, preview_every=0)
        losses: deque[float] = deque(maxlen=LAST)
        begun, load = datetime.now(UTC), os.getloadavg()[0]
        with self._watcher.show(f"training seed {seed}", config.train_steps) as bar:

            def after_step(_step: int, report: StepReport) -> None:
                losses.append(report.loss)
                bar.advance(f"loss {report.loss:.4f}")

            start = perf_counter()
            dataset = self._load("train")
            read = perf_counter()
            where = str(dataset.folder.absolute()) if dataset.folder else ""
            config = replace(config, data_dir=where)
            loop.train(config, dataset, run, execution, loop.Hooks(after_step, lambda: False))
            end = perf_counter()
        images = config.train_steps * config.batch
        return Record(
            seed=seed,
            conditions=self.conditions,
            begun=begun.isoformat(timespec="seconds"),
            seconds=end - start,
            reading=read - start,
            load=(load, os.getloadavg()[0]),
            images=images,
            flop=images * (1 + BACKWARD) * forward_products(config.network).total,
            loss=float(np.mean(losses)),
        )

    def _judge(self, seed: int) -> Verdict:
        """Generate samples with the last weights, averaged, and say what they are worth."""
        settings, train_steps = self._settings, self._settings.config(seed).train_steps
        found = run_directory.find(self._run_path(seed))
        if found.checkpoint.step != train_steps:
            raise CheckpointError(
                f"{self._run_path(seed)} is at step {found.checkpoint.step}, and not {train_steps}",
                cause=found.warning,
                remedy=f"remove {self._record_path(seed)}: the seed is then trained anew",
            )
        train, test = self._digits
        sampling = Sampling(steps=settings.steps, eta=None, seed=seed)
        trained = from_checkpoint(found.checkpoint)
        kept = KeptSamples(trained, found.path, sampling, train.labels, settings.threads)
        calls = kept.calls(settings.samples)
        with self._watcher.show(f"sampling seed {seed}", calls) as bar:
            images = kept.collect(settings.samples, bar.advance)
        with (
            Workers(settings.threads) as workers,
            self._watcher.show(f"judging seed {seed}", STAGES) as bar,
        ):
            judge = self._classifier
            return Verdict.of(measure(images, train, test, judge, workers, progress=bar.advance))

    def _run(self, seed: int) -> RunDirectory:
        """The run of a seed that is to be trained from its beginning."""
        config, path = self._settings.config(seed), self._run_path(seed)
        if not (path / "checkpoints").exists():
            return RunDirectory.create(path, config.to_json())
        run = RunDirectory.open(path)
        if replace(RunConfig.from_json(run.read_config()), data_dir="") != config:
            raise UsageError(f"{path} holds another run, without a record", remedy="another --out")
        self._watcher.say(
            f"seed {seed} was stopped while it trained: it is trained anew, for its clock must not "
            "stop"
        )
        run.remove_checkpoints()
        return run

    def _see_to_data(self) -> None:
        """Download what is not there before any clock runs, and touch nothing that is."""
        folder = self._settings.data_dir
        there = locate(MNIST.parts, [folder] if folder else data_folders(DATA))
        if len(there) < len(MNIST.parts):
            self._load("train")
            self._load("test")

    def _load(self, split: Split) -> Dataset:
        dataset = data.load(
            DATA, split=split, data_dir=self._settings.data_dir, tell=self._tell_download
        )
        if split == "train" and dataset.fingerprint != self._classifier.data_fingerprint:
            raise DataError(
                "these are not the training images of MNIST, which the classifier learnt from",
                cause=f"fingerprint {dataset.fingerprint[:12]}… in {dataset.folder}",
                remedy="tinyddpm data verify",
            )
        return dataset

    def _tell_download(self, file: RemoteFile, mirror: str) -> None:
        self._watcher.say(f"downloading {file.name} from {mirror}")

    @cached_property
    def _digits(self) -> tuple[Digits, Digits]:
        """The real digits, read when the first clock has stopped."""
        return digits_of(self._load("train")), digits_of(self._load("test"))

    def _read(self, seed: int) -> Record | None:
        return quality_record.read(self._record_path(seed), self.conditions)

    def _record_path(self, seed: int) -> Path:
        return self._out / f"seed-{seed}.json"

    def _run_path(self, seed: int) -> Path:
        return self._out / f"seed-{seed}"
