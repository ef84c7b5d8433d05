"""The folder of one training run.

    config.json     the whole resolved configuration        env.json    where it was begun
    metrics.jsonl   a JSON object for each step             lock        held while training
    samples/        previews
    checkpoints/    step-00001000.npz …   and latest, a text file with the name of one of them

A save writes the checkpoint, then ``latest``, and only then removes old checkpoints, so that a kill
between any two of these leaves a ``latest`` that names a whole file.
"""

from __future__ import annotations

import json
import os
import platform
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import Any, NamedTuple

import numpy as np

import tinyddpm
from tinyddpm.errors import CheckpointError, UsageError
from tinyddpm.files import open_plain, remove_leftovers, storage_errors, write_text
from tinyddpm.training.checkpoint import Checkpoint, read, save
from tinyddpm.training.lock import exclusive_lock

KEPT = 3  # checkpoints of a run, unless told

_STEP_NAME = re.compile(r"step-(\d{8,})\.npz")


class FoundCheckpoint(NamedTuple):
    """A checkpoint, where it was, and why it is not the one first looked for (empty if it is)."""

    path: Path
    checkpoint: Checkpoint
    warning: str


@dataclass(frozen=True)
class RunDirectory:
    """One run on disk, from ``create`` or ``open``."""

    path: Path

    @classmethod
    def create(cls, path: Path, config: dict[str, Any]) -> RunDirectory:
        """Begin a run in ``path``, a new or empty folder; of two who do so at once, one succeeds.

        Raises:
            UsageError: there is a run, or anything else, in ``path``.
            StorageError: the folder cannot be written.
        """
        run = cls(path)
        with storage_errors(path):
            try:
                path.mkdir(parents=True, exist_ok=True)
                if any(path.iterdir()):
                    raise FileExistsError(path)
                run.checkpoints.mkdir()  # who makes this folder owns the run
                run.samples.mkdir()
            except (FileExistsError, NotADirectoryError) as error:
                go_on = f"--resume {quote(str(path))} to go on with the run in it, or "
                raise UsageError(
                    f"{path} is taken: it is not a new or empty folder",
                    remedy=f"{go_on if run.checkpoints.is_dir() else ''}another --out",
                ) from error
        write_text(path / "env.json", json.dumps(environment(), indent=2) + "\n")
        run.write_config(config)
        return run

    @classmethod
    def open(cls, path: Path) -> RunDirectory:
        """Return the run in ``path``.

        Raises:
            UsageError: there is none.
        """
        run = cls(path)
        if not run.checkpoints.is_dir():
            raise UsageError(
                f"there is no run in {path}",
                cause=f"looked for {run.checkpoints}",
                remedy="a run's folder, or its name in runs/; tinyddpm runs lists them",
            )
        return run

    def write_config(self, config: dict[str, Any]) -> None:
        """Write ``config.json``, for people and for a run that has no checkpoint yet."""
        text = json.dumps(config, indent=2, allow_nan=False)
        write_text(self.path / "config.json", f"{text}\n")

    def read_config(self) -> dict[str, Any]:
        """Return what ``config.json`` holds; once there is a checkpoint, that one's config counts.

        Raises:
            CheckpointError: it cannot be read.
        """
        path = self.path / "config.json"
        try:
            with open_plain(path) as file:
                return {**json.load(file)}
        except (OSError, ValueError, TypeError, RecursionError) as error:
            raise CheckpointError(
                f"{path} cannot be read", cause=str(error), remedy="a new run with another --out"
            ) from error

    def changed_versions(self) -> list[str]:
        """Return what has changed its version since the run was begun, and so may round otherwise;
        nothing if that is not known.
        """
        try:
            with open_plain(self.path / "env.json") as file:
                begun, now = {**json.load(file)}, environment()
        except (OSError, ValueError, TypeError, RecursionError):
            return []
        versions = [(name, begun.get(name), now[name]) for name in ("tinyddpm", "numpy")]
        return [f"{name} {old} → {new}" for name, old, new in versions if old and old != new]

    @property
    def checkpoints(self) -> Path:
        """The folder of checkpoints."""
        return self.path / "checkpoints"

    @property
    def samples(self) -> Path:
        """The folder of previews."""
        return self.path / "samples"

    @property
    def metrics(self) -> Path:
        """The file of metrics, a JSON object in each line."""
        return self.path / "metrics.jsonl"

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Be the one process that writes here; files that a killed one left half-written go.

        Raises:
            RunLockedError: another process is training here.
        """
        with exclusive_lock(self.path / "lock"):
            with storage_errors(self.samples):
                self.samples.mkdir(exist_ok=True)  # empty, it is lost by what copies only files
            for folder in (self.path, self.checkpoints, self.samples):
                remove_leftovers(folder)
            yield

    def save_checkpoint(self, checkpoint: Checkpoint, *, keep: int = KEPT) -> Path:
        """Write ``checkpoint``, point ``latest`` at it, keep it and the ``keep − 1`` before it.

        At least two are kept. Checkpoints of later steps are left alone: a run that had to go back
        to an earlier one has yet to reach them again.

        Raises:
            CheckpointError: the state is not worth keeping.
            StorageError: it could not be written; the earlier checkpoints are untouched.
        """
        path = self.checkpoints / f"step-{checkpoint.step:08d}.npz"
        save(path, checkpoint)
        write_text(self.checkpoints / "latest", f"{path.name}\n")
        earlier = [other for other in self.saved() if step_of(other) < checkpoint.step]
        for old in earlier[max(keep, 2) - 1 :]:
            with storage_errors(old):
                old.unlink(missing_ok=True)
        return path

    def saved(self) -> list[Path]:
        """Return the checkpoint files, the latest step first.

        Raises:
            CheckpointError: their folder cannot be read. That must not look like a run without
                checkpoints, which would begin anew.
        """
        try:
            files = list(self.checkpoints.iterdir())
        except OSError as error:
            cause = error.strerror or str(error)
            raise CheckpointError(f"{self.checkpoints} cannot be read", cause=cause) from error
        named = [path for path in files if _STEP_NAME.fullmatch(path.name)]
        return sorted(named, key=step_of, reverse=True)

    def remove_checkpoints(self) -> None:
        """Let the run be one that has yet to begin.

        Raises:
            RunLockedError: another process is training here.
            StorageError: a file could not be removed.
        """
        with self.lock(), storage_errors(self.checkpoints):
            for path in [*self.saved(), self.checkpoints / "latest"]:
                path.unlink(missing_ok=True)

    def candidates(self) -> list[Path]:
        """Return the files that the run may go on from: what ``latest`` names, there or not, then
        the latest step first. The two differ after a run had to go back.
        """
        return list(dict.fromkeys(self._named_by_latest() + self.saved()))

    def latest_checkpoint(self) -> FoundCheckpoint:
        """Return the checkpoint that ``latest`` names or, with a warning, the latest good one.

        Raises:
            CheckpointError: there is none; its cause lists what was tried.
        """
        named = self._named_by_latest()
        failures = [] if named else [f"{self.checkpoints / 'latest'} names no checkpoint"]
        for path in self.candidates():
            try:
                checkpoint = read(path)
            except CheckpointError as error:
                failures.append(f"{error.args[0]} ({error.cause})" if error.cause else str(error))
                continue
            warning = "; ".join([*failures, f"{path} is used instead"]) if failures else ""
            return FoundCheckpoint(path, checkpoint, warning)
        anew = f"tinyddpm train --resume {quote(str(self.path))} begins it anew"
        raise CheckpointError(
            f"no checkpoint in {self.path}",
            cause="; ".join(failures),
            remedy=f"another run; without these files {anew}" if self.saved() else anew,
        )

    def _named_by_latest(self) -> list[Path]:
        name = ""
        with suppress(OSError), open_plain(self.checkpoints / "latest") as file:
            name = file.read().decode(errors="replace").strip()
        return [self.checkpoints / name] if _STEP_NAME.fullmatch(name) else []

    def append_metrics(self, metrics: dict[str, Any]) -> None:
        """Add one line to the metrics; ``metrics`` has a ``step``, and numbers that are finite."""
        line = json.dumps(metrics, allow_nan=False)
        with storage_errors(self.metrics), self.metrics.open("a", encoding="utf-8") as file:
            file.write(f"{line}\n")

    def trim_metrics(self, step: int) -> None:
        """Drop what is past ``step``, and any line torn by a kill, before the run goes on there."""
        if self.metrics.exists():
            with open_plain(self.metrics) as file:
                lines = file.read().decode(errors="replace").split("\n")
            kept = [line for line in lines if _is_metrics_up_to(step, line)]
            write_text(self.metrics, "".join(f"{line}\n" for line in kept))


def next_free(root: Path, name: str) -> Path:
    """Make and return the first of the folders ``name-1``, ``name-2``, … that is not there yet.

    It is made here so that no two processes are given the same one.
    """
    with storage_errors(root):
        root.mkdir(parents=True, exist_ok=True)
    number = 0
    while True:
        number += 1
        path = root / f"{name}-{number}"
        with storage_errors(path), suppress(FileExistsError):
            path.mkdir()
            return path


def newest(root: Path) -> Path:
    """Return the run in ``root``, or in a folder of runs there, whose checkpoint was written last.

    Raises:
        CheckpointError: no run there has a checkpoint.
    """
    written = []
    saved = "checkpoints/step-*.npz"
    for path in [*root.glob(f"*/{saved}"), *root.glob(f"*/*/{saved}")]:
        with suppress(FileNotFoundError):  # its run may remove it while we look
            written.append((path.stat().st_mtime_ns, path.parents[1]))
    if not written:
        raise CheckpointError(f"no trained run in {root}", remedy="tinyddpm train --data glyphs")
    return max(written)[1]


def find(path: Path) -> FoundCheckpoint:
    """Return the checkpoint that ``path``, a run or a checkpoint file, stands for."""
    if path.is_dir() or path.suffix != ".npz":
        return RunDirectory.open(path).latest_checkpoint()
    return FoundCheckpoint(path, read(path), "")


def environment() -> dict[str, Any]:
    """Return what a run's exact numbers depend on besides its config."""
    versions = {"tinyddpm": tinyddpm.__version__, "numpy": np.__version__}
    machine = {"platform": platform.platform(), "cpu_count": os.cpu_count()}
    return {"python": platform.python_version(), **versions, **machine}


def step_of(path: Path) -> int:
    """Return the step of a checkpoint by its name."""
    return int(path.stem.removeprefix("step-"))


def _is_metrics_up_to(step: int, line: str) -> bool:
    try:
        return bool(json.loads(line)["step"] <= step)
    except (ValueError, LookupError, TypeError):
        return False
