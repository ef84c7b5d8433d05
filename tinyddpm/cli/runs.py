"""``tinyddpm runs``."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from tinyddpm.cli.columns import aligned
from tinyddpm.cli.completion import complete_run
from tinyddpm.cli.messages import say
from tinyddpm.cli.options import RUNS, RunPath
from tinyddpm.cli.progress import duration
from tinyddpm.cli.sparkline import sparkline
from tinyddpm.diffusion.losses import resolve_objective
from tinyddpm.errors import CheckpointError, UsageError
from tinyddpm.training.config import DiffusionConfig, differing
from tinyddpm.training.overview import (
    Loss,
    Overview,
    folders,
    losses,
    mean_losses,
    overview,
    part_ends,
)
from tinyddpm.training.run_directory import RunDirectory

EXAMPLES = """\b
Examples:
  tinyddpm runs
  tinyddpm runs --json
  tinyddpm runs compare runs/mnist-1 runs/mnist-2
"""
EXAMPLES_OF_COMPARE = """\b
Examples:
  tinyddpm runs compare runs/mnist-1 runs/mnist-2
  tinyddpm runs compare runs/mnist-1 runs/mnist-2 --json
"""
PARTS = 8  # of the steps, a mean each
BARS = 40
# Keys that change what the loss means, so that two losses are no longer comparable.
MEANING = ("data", "diffusion.", "class_names")


@click.group(epilog=EXAMPLES, invoke_without_command=True, short_help="List and compare runs.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list instead of the table.")
@click.pass_context
def runs(ctx: click.Context, as_json: bool) -> None:  # noqa: FBT001
    """List the runs in runs/, the most recently written first; `compare` compares two.

    The loss is the mean of the last 50 steps. A folder that is not a sound run is listed as
    damaged. In place of a folder of several runs, as bench leaves it, these are listed.
    """
    if ctx.invoked_subcommand is None:
        _list(as_json=as_json)
    elif as_json:
        raise UsageError(
            "--json belongs after the word compare", remedy="tinyddpm runs compare A B --json"
        )


@runs.command(epilog=EXAMPLES_OF_COMPARE, short_help="Compare two runs.")
@click.argument("a", type=RunPath(), shell_complete=complete_run)
@click.argument("b", type=RunPath(), shell_complete=complete_run)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of the text.")
def compare(a: Path, b: Path, as_json: bool) -> None:  # noqa: FBT001
    """Compare runs A and B: where their settings differ, and their losses side by side.

    The curves share one logarithmic scale of the loss and one scale of the steps.
    """
    _refuse_missing(a)
    _refuse_missing(b)
    pair = overview(a), overview(b)
    curves = [losses(RunDirectory.open(run.path)) for run in pair]
    table = _means(curves)
    if as_json:
        click.echo(json.dumps(_comparison(pair, table), indent=2))
    else:
        click.echo("\n".join(_as_text(pair, curves, table)))


def _refuse_missing(path: Path) -> None:
    """Raise UsageError if there is nothing in ``path``; ``overview`` calls that no sound run."""
    if not path.exists():
        RunDirectory.open(path)


def _list(*, as_json: bool) -> None:
    sound, damaged = [], []
    for path in folders(RUNS):
        try:
            sound.append(overview(path))
        except CheckpointError as error:
            damaged.append((path, error.cause))
    sound.sort(key=lambda run: run.age)
    if as_json:
        entries = [_entry(run) for run in sound]
        entries += [{"run": str(p), "state": "damaged", "cause": cause} for p, cause in damaged]
        click.echo(json.dumps(entries, indent=2))
        return
    head = ("run", "data", "preset", "step", "state", "loss", "written")
    for line in aligned([head, *map(_row, sound)]) if sound else []:
        click.echo(line)
    for path, cause in damaged:
        click.echo(f"{path}  damaged: {cause}")
    if not (sound or damaged):
        say(f"there are no runs in {RUNS}; tinyddpm train begins one")


def _row(run: Overview) -> tuple[str, ...]:
    config = run.config
    steps = f"{run.step:,}/{config.train_steps:,}"
    names = str(run.path), Path(config.data).name, config.preset
    return *names, steps, run.state, _number(run.loss), f"{duration(run.age)} ago"


def _entry(run: Overview) -> dict[str, Any]:
    return {
        "run": str(run.path),
        "data": run.config.data,
        "preset": run.config.preset,
        "step": run.step,
        "train_steps": run.config.train_steps,
        "state": run.state,
        "loss": run.loss,
        "age": run.age,
    }


def _comparison(pair: tuple[Overview, Overview], table: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "runs": [_entry(run) for run in pair],
        "differing": differing(pair[0].config, pair[1].config),
        "losses": table,
    }


def _means(curves: list[list[Loss]]) -> list[dict[str, Any]]:
    """Mean losses of both runs over equal parts of the steps; None where one has no steps."""
    end = _end(curves)
    ends = part_ends(end, PARTS)
    columns = [mean_losses(curve, end, PARTS) for curve in curves]
    return [
        {"from": before + 1, "to": last, "means": means}
        for before, last, *means in zip([0, *ends], ends, *columns, strict=False)
    ]


def _end(curves: list[list[Loss]]) -> int:
    """The last step of both."""
    return max((entry.step for curve in curves for entry in curve), default=0)


def _as_text(
    pair: tuple[Overview, Overview], curves: list[list[Loss]], table: list[dict[str, Any]]
) -> Iterator[str]:
    differences = differing(pair[0].config, pair[1].config)
    head = [("", *(str(run.path) for run in pair))]
    yield from aligned([*head, *((key, *map(str, values)) for key, values in differences.items())])
    yield "" if differences else "the same settings\n"
    facts = [
        ("step", *(f"{run.step:,}/{run.config.train_steps:,}" for run in pair)),
        ("state", *(run.state for run in pair)),
        ("loss, last 50", *(_number(run.loss) for run in pair)),
    ]
    parts = [(f"{p['from']:,}–{p['to']:,}", *map(_number, p["means"])) for p in table]
    yield from aligned([*facts, ("", "", ""), ("mean over steps", "", ""), *parts])
    yield ""
    fine = [mean_losses(curve, _end(curves), BARS) for curve in curves]
    drawn = [value for means in fine for value in means if value is not None]
    for run, means in zip(pair, fine, strict=True):
        yield f"{sparkline(means, min(drawn, default=0), max(drawn, default=0))}  {run.path}"
    if not _mean_the_same({*differences}, pair[0].config.diffusion):
        yield "\nthe losses are not comparable: data, classes, chain or objective differ"


def _mean_the_same(differing: set[str], chain: DiffusionConfig) -> bool:
    """Whether the losses do: the weight of the bound matters to the hybrid objective alone."""
    hybrid = resolve_objective(chain.objective, chain.variance) == "hybrid"
    idle = set() if hybrid else {"diffusion.vlb_weight"}
    return not any(key.startswith(MEANING) for key in differing - idle)


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"
