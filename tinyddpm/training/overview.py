"""Runs seen from outside: what they are, how far they got, and their losses.

Nothing is written, and no array is read. What a run directory holds may be damaged, half-written or
of another program: that is told, and stops nobody from seeing the other runs.
"""

from __future__ import annotations

import fcntl
import json
import math
import os
import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from tinyddpm.errors import CheckpointError, TinyDDPMError
from tinyddpm.files import open_plain
from tinyddpm.training.config import RunConfig
from tinyddpm.training.run_directory import RunDirectory, step_of

State = Literal["running", "finished", "stopped"]

RECENT = 50  # steps in the mean of the last losses
_TAIL = 64 * 1024  # bytes at the end of the metrics; RECENT lines are a quarter of it


class Loss(NamedTuple):
    """The loss of one step, as it was trained: a batch of its own, and so not smooth."""

    step: int
    loss: float


@dataclass(frozen=True, kw_only=True)
class Overview:
    """One run.

    Attributes:
        path: its folder.
        config: its configuration.
        state: whether a process trains it, and if not, whether it reached its last step.
        step: the last step done or, if nobody trains it, the last one that was saved.
        loss: mean of the last ``RECENT`` steps; None before the first.
        age: seconds since anything was written.
    """

    path: Path
    config: RunConfig
    state: State
    step: int
    loss: float | None
    age: float


def folders(root: Path) -> list[Path]:
    """Return the folders in ``root`` that may be runs, in the order of their names.

    A folder that is no run itself but holds runs, such as ``bench --time-to-quality`` leaves, is
    replaced by these.
    """
    if not root.is_dir():
        return []
    shown = sorted(path for path in root.iterdir() if path.is_dir() and path.name[0] != ".")
    return [path for folder in shown for path in _runs_inside(folder) or [folder]]


def overview(path: Path) -> Overview:
    """Return what there is to say of the run in ``path``.

    Raises:
        CheckpointError: the folder does not hold a run, or one that is damaged; the cause says how.
    """
    try:
        run = RunDirectory.open(path)
        config = RunConfig.from_json(run.read_config())
        saved, running = _last_saved(run), _is_locked(path / "lock")
        recent = losses(run, tail=_TAIL)[-RECENT:]
        step = max(saved, recent[-1].step) if running and recent else saved
        finished = saved >= config.train_steps
        return Overview(
            path=path,
            config=config,
            state="running" if running else "finished" if finished else "stopped",
            step=step,
            loss=sum(entry.loss for entry in recent) / len(recent) if recent else None,
            age=max(0.0, time.time() - _last_written(run)),
        )
    except TinyDDPMError as error:
        cause = f"{error.args[0]} ({error.cause})" if error.cause else str(error.args[0])
        raise CheckpointError(f"{path} is not a sound run", cause=cause) from error
    except Exception as error:  # whatever the files hold, it is the files that are wrong
        cause = f"{type(error).__name__}: {error}"
        raise CheckpointError(f"{path} is not a sound run", cause=cause) from error


def losses(run: RunDirectory, *, tail: int | None = None) -> list[Loss]:
    """Return the losses in the metrics of ``run``, or of their last ``tail`` bytes.

    Lines that a kill has torn, and losses that are no finite numbers, are left out.
    """
    if not run.metrics.exists():
        return []
    with open_plain(run.metrics) as file:
        if tail is not None:
            file.seek(-min(tail, file.seek(0, os.SEEK_END)), os.SEEK_END)
        lines = file.read().splitlines()
    return list(_parsed(lines))


def part_ends(end: int, parts: int) -> list[int]:
    """Return the last step of each of ``parts`` equal parts of 1 … ``end``; fewer, if it is short.

    Part k of n are the steps s with k = ⌊(s − 1) n / end⌋.
    """
    parts = min(parts, end)
    return [-(-(part + 1) * end // parts) for part in range(parts)]


def mean_losses(curve: list[Loss], end: int, parts: int) -> list[float | None]:
    """Return the mean loss of each part (see ``part_ends``); None where ``curve`` has no step."""
    parts = min(parts, end)
    sums, counts = [0.0] * parts, [0] * parts
    for step, loss in curve:
        part = (step - 1) * parts // end
        sums[part], counts[part] = sums[part] + loss, counts[part] + 1
    return [total / count if count else None for total, count in zip(sums, counts, strict=True)]


def _runs_inside(folder: Path) -> list[Path]:
    """The runs in a folder that is none itself. (A glob finds nothing where it may not look.)"""
    if any(folder.glob("checkpoints")):
        return []
    return sorted(path.parent for path in folder.glob("[!.]*/checkpoints"))


def _parsed(lines: list[bytes]) -> Iterator[Loss]:
    for line in lines:
        try:
            entry = json.loads(line)
            found = Loss(int(entry["step"]), float(entry["loss"]))
        except (ValueError, LookupError, TypeError, RecursionError):
            continue
        if found.step > 0 and math.isfinite(found.loss):
            yield found


def _last_saved(run: RunDirectory) -> int:
    """The step of the last checkpoint, which must be whole as far as its end shows."""
    saved = next(filter(Path.exists, run.candidates()), None)
    if saved is None:
        return 0
    with open_plain(saved) as file:
        whole = zipfile.is_zipfile(file)
    if not whole:
        raise CheckpointError(f"{saved.name} is cut short, or is no checkpoint")
    return step_of(saved)


def _last_written(run: RunDirectory) -> float:
    paths = [run.metrics, run.path / "config.json", *run.saved()[:1]]
    return max(path.stat().st_mtime for path in paths if path.exists())


def _is_locked(path: Path) -> bool:
    """Whether a process holds the lock file. It is free again when this returns."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
