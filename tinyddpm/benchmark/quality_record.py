"""What is kept of each seed of a time-to-quality: one JSON file, and mean and spread over them."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tinyddpm.errors import UsageError
from tinyddpm.evaluation.sample_quality import Quality
from tinyddpm.files import open_plain, write_text
from tinyddpm.training.config import flat


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What the samples are worth; all but R beside the same of real digits.

    Attributes:
        cfd: for each layer the samples' distance, that of real digits, and R, their ratio.
        unsure: share of images that the classifier is not sure of.
        black: share of pixels that are 0.
    """

    cfd: dict[str, dict[str, float]]
    unsure: dict[str, float]
    black: dict[str, float]

    @classmethod
    def of(cls, quality: Quality) -> Verdict:
        """The part of ``quality`` that is kept; the samples, kept too, can tell the rest."""
        kinds = {"samples": quality.samples, "real": quality.real}
        return cls(
            cfd={
                name: {"samples": d.value, "real": d.real_mean, "R": d.ratio}
                for name, d in quality.distances.items()
            },
            unsure={name: looks.unsure.mean for name, looks in kinds.items()},
            black={name: looks.black.mean for name, looks in kinds.items()},
        )


@dataclass(frozen=True, kw_only=True)
class Record:
    """One seed, trained and, unless it was stopped in between, judged.

    Attributes:
        seed: of the training, and of the samples.
        conditions: machine, configuration and judge, which all seeds must have in common.
        begun: date and time, UTC.
        seconds: by the clock, from the first touch of the data to the last checkpoint written.
        reading: seconds of these until the data were read.
        load: of the machine in the minute before and in the last minute.
        images: seen in training.
        flop: operations of the products of training, as their definition computes them.
        loss: L_simple, the mean of the last steps.
        verdict: on the samples; None: they have yet to be judged.
    """

    seed: int
    conditions: dict[str, Any]
    begun: str
    seconds: float
    reading: float
    load: tuple[float, float]
    images: int
    flop: float
    loss: float
    verdict: Verdict | None = None

    def numbers(self) -> dict[str, float]:
        """What seeds differ in.

        Raises:
            UsageError: the samples have yet to be judged.
        """
        if self.verdict is None:
            raise UsageError(f"seed {self.seed} has yet to be judged")
        return {
            "seconds": self.seconds,
            "loss": self.loss,
            **{f"R {name}": distance["R"] for name, distance in self.verdict.cfd.items()},
            "unsure": self.verdict.unsure["samples"],
            "black": self.verdict.black["samples"],
        }


class Summary(NamedTuple):
    """Over seeds: the mean and the standard deviation, which one seed does not have."""

    mean: float
    spread: float | None


def summary(records: list[Record]) -> dict[str, Summary]:
    """Return the summary of each of the records' ``numbers``."""
    rows = [record.numbers() for record in records]
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    return {
        name: Summary(
            float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else None
        )
        for name, values in columns.items()
    }


def write(path: Path, record: Record) -> None:
    """Write ``record``.

    Raises:
        StorageError: it cannot be written.
    """
    text = json.dumps(asdict(record), indent=2, allow_nan=False, ensure_ascii=False)
    write_text(path, f"{text}\n")


def read(path: Path, conditions: dict[str, Any]) -> Record | None:
    """Return the record in ``path``, which was made under ``conditions``; None: there is none.

    Raises:
        UsageError: it was made under others, or is no record.
    """
    if not path.exists():
        return None
    try:
        with open_plain(path) as file:
            found = json.load(file)
        verdict = found["verdict"] and Verdict(**found["verdict"])
        load = tuple(found["load"])
        record = Record(**{**found, "verdict": verdict, "load": load})
        differing = _differing(record.conditions, conditions)
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise UsageError(
            f"{path} is not a record of this measurement", cause=str(error), remedy="another --out"
        ) from error
    if differing:
        raise UsageError(
            f"{path} was measured under other conditions: a mean over both would mean nothing",
            cause="; ".join(differing),
            remedy="another --out",
        )
    return record


def _differing(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """``key: before → now`` for each key that the two do not share."""
    old, new = dict(flat(before)), dict(flat(now))
    keys = dict.fromkeys([*old, *new])
    return [f"{k}: {old.get(k)} → {new.get(k)}" for k in keys if old.get(k) != new.get(k)]
