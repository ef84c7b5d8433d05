"""What ``tinyddpm bench --time-to-quality`` does and says."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import click

from tinyddpm.benchmark.quality_record import Record, Summary, summary
from tinyddpm.benchmark.quality_settings import STEPS, QualitySettings
from tinyddpm.benchmark.time_to_quality import LAST, TimeToQuality, Watcher
from tinyddpm.cli.messages import say
from tinyddpm.cli.options import RUNS
from tinyddpm.cli.progress import Progress, duration
from tinyddpm.cli.quality_report import DEFINED_AT
from tinyddpm.evaluation.sample_quality import SURE


class Column(NamedTuple):
    """A column of the table: its heading, its width, and the format of its numbers."""

    heading: str
    width: int
    form: str


COLUMNS = {
    "seconds": Column("seconds", 11, "{:,.1f}"),
    "loss": Column("L_simple", 10, "{:.5f}"),
    "R cfd-84": Column("R cfd-84", 10, "{:.2f}"),
    "R cfd-400": Column("R cfd-400", 11, "{:.2f}"),
    "unsure": Column("unsure", 9, "{:.2%}"),
    "black": Column("black", 9, "{:.2%}"),
}


@dataclass(frozen=True, kw_only=True)
class QualityRequest:
    """The options of ``--time-to-quality``, as given."""

    preset: str
    train_steps: int | None
    seeds: int
    samples: int
    steps: int | None
    threads: int
    data_dir: Path | None
    out: Path | None
    device: str
    as_json: bool


def time_to_quality(request: QualityRequest) -> None:
    """Measure, and say what was found."""
    settings = QualitySettings(
        preset=request.preset,
        train_steps=request.train_steps or 0,
        seeds=request.seeds,
        samples=request.samples,
        steps=STEPS if request.steps is None else request.steps,
        threads=request.threads,
        data_dir=request.data_dir,
    )
    out = request.out or RUNS / f"time-to-quality-{request.preset}"
    bench = TimeToQuality(settings, out, Watcher(say, Progress))
    records = bench.records()
    say(f"runs and records are in {out}")
    if request.as_json:
        click.echo(json.dumps(_as_json(records), ensure_ascii=False, indent=2))
    else:
        click.echo("\n".join(_table(records)))


def _as_json(records: list[Record]) -> dict[str, Any]:
    summaries = {name: found._asdict() for name, found in summary(records).items()}
    return {"summary": summaries, "seeds": [asdict(record) for record in records]}


def _table(records: list[Record]) -> Iterator[str]:
    """The report, line by line."""
    yield from _heading(records[0])
    yield ""
    headings = {key: column.heading for key, column in COLUMNS.items()}
    yield _row("seed", headings, "reading", "load")
    for record in records:
        load = " → ".join(f"{value:.1f}" for value in record.load)
        yield _row(str(record.seed), _written(record.numbers()), f"{record.reading:.2f} s", load)
    found = summary(records)
    yield _row("mean", _written({key: both.mean for key, both in found.items()}))
    spread = {key: both.spread for key, both in found.items() if both.spread is not None}
    yield _row("spread", _written(spread))
    yield _row("real", _written(_real(records[0])))
    yield ""
    yield from _notes(records)


def _heading(record: Record) -> Iterator[str]:
    where, config = record.conditions["machine"], record.conditions["config"]
    yield (
        f"preset {config['preset']} on MNIST: {config['train_steps']:,} steps of {config['batch']} "
        f"images, {record.images:,} in all; {record.flop / 1e12:.3g} TFLOP of products"
    )
    held = where["blas_threads_held_by"]
    yield (
        f"{where['processor']}, {record.conditions['threads']} of {where['cores']} cores; "
        f"tinyddpm {where['tinyddpm']}, Python {where['python']}, NumPy {where['numpy']}, "
        f"{where['blas']}, " + ("held to one thread" if held else "whose threads nobody holds")
    )
    judge, sampling = record.conditions["classifier"], record.conditions["sampling"]
    yield (
        f"judged on {record.conditions['samples']:,} samples of {sampling['steps']} steps, "
        f"ancestral, by a LeNet-5 that names {judge['test_accuracy']:.2%} of the test images "
        f"rightly (SHA-256 {judge['sha256'][:16]})"
    )


def _written(numbers: dict[str, float]) -> dict[str, str]:
    return {key: COLUMNS[key].form.format(number) for key, number in numbers.items()}


def _row(label: str, cells: dict[str, str], *others: str) -> str:
    columns = [f"{cells.get(key, ''):>{column.width}}" for key, column in COLUMNS.items()]
    return "".join([f"{label:<7}", *columns, *(f"{other:>12}" for other in others)]).rstrip()


def _real(record: Record) -> dict[str, float]:
    """What real digits have in place of the samples' numbers."""
    verdict = record.verdict
    if verdict is None:
        return {}
    ratios = {f"R {name}": 1.0 for name in verdict.cfd}
    return {**ratios, "unsure": verdict.unsure["real"], "black": verdict.black["real"]}


def _notes(records: list[Record]) -> Iterator[str]:
    found, conditions = summary(records), records[0].conditions
    ratio, last = found["R cfd-84"], min(LAST, conditions["config"]["train_steps"])
    yield (
        f"{_with_spread(found['seconds'], '{:,.1f}')} s ({duration(found['seconds'].mean)}) to "
        f"R = {_with_spread(ratio, '{:.2f}')}, at {_speed(records)}"
    )
    yield (
        "seconds: from the first touch of the data to the last checkpoint; the length was fixed "
        "beforehand"
    )
    yield (
        f"L_simple: mean of the last {last} steps; R: Fréchet distance to the test images over "
        f"that of as many training images; unsure: p < {SURE}; black: pixels that are 0"
    )
    yield (
        f"load: in the minute before and in the last, of which {conditions['threads']} may be its "
        "own; spread: standard deviation over seeds"
    )
    if conditions["samples"] < DEFINED_AT:
        yield f"R is defined at {DEFINED_AT:,} samples; with fewer it is closer to 1"


def _speed(records: list[Record]) -> str:
    seconds = sum(record.seconds for record in records)
    images, flop = (sum(getattr(r, name) for r in records) for name in ("images", "flop"))
    return f"{images / seconds:,.0f} images/s and {flop / seconds / 1e9:,.1f} GFLOP/s"


def _with_spread(number: Summary, form: str) -> str:
    spread = "" if number.spread is None else f" ± {form.format(number.spread)}"
    return form.format(number.mean) + spread
