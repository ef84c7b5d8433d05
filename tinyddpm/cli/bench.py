"""``tinyddpm bench``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from tinyddpm.benchmark.against import load_torch
from tinyddpm.benchmark.report import Report, Settings, measure, plain
from tinyddpm.benchmark.scaling import Point
from tinyddpm.cli import bench_report
from tinyddpm.cli.messages import say
from tinyddpm.cli.options import threads_option
from tinyddpm.errors import UsageError
from tinyddpm.figures.ledger import check_can_draw
from tinyddpm.figures.scaling_plot import Series, scaling_figure
from tinyddpm.figures.style import draw_and_save
from tinyddpm.nn.config import PRESETS

EXAMPLES = """\b
Examples:
  tinyddpm bench
  tinyddpm bench --preset mnist-1.7m --against torch
  tinyddpm bench --preset cifar10 --batch 8 --no-ops --no-memory
  tinyddpm bench --scaling --plot scaling.png
"""


@click.command(epilog=EXAMPLES, short_help="Measure speed and memory.")
@click.option("--preset", type=click.Choice(list(PRESETS)), default="mnist", help="The network.")
@click.option("--batch", type=click.IntRange(min=1), default=64, metavar="N", help="Images a step.")
@click.option(
    "--shard",
    type=click.IntRange(min=1),
    default=None,
    metavar="N",
    help="Images that one thread takes at a time.  [default: the preset's]",
)
@threads_option
@click.option("--device", type=click.Choice(["cpu"]), default="cpu", help="Where to compute.")
@click.option(
    "--rounds",
    type=click.IntRange(min=1),
    default=10,
    metavar="N",
    help="Turns of each contestant; medians are told.",
)
@click.option(
    "--steps",
    type=click.IntRange(min=0),
    default=0,
    metavar="N",
    help="Steps of a turn, 0: as many as take a quarter of a second.",
)
@click.option("--ops/--no-ops", default=True, help="The training step by op, on one thread.")
@click.option("--memory/--no-memory", default=True, help="Peak memory of five training steps.")
@click.option(
    "--growth",
    type=click.IntRange(min=0),
    default=0,
    metavar="N",
    help="Memory before and after N training steps; 0: not measured.",
)
@click.option(
    "--against",
    type=click.Choice(["torch"]),
    help="The same network in PyTorch beside it, in turns, in both memory formats.",
)
@click.option("--compile", "compiled", is_flag=True, help="With --against: torch.compile too.")
@click.option("--bf16", is_flag=True, help="With --against: autocast to bfloat16 too.")
@click.option("--scaling", is_flag=True, help="Time of an image by batch, channels and size.")
@click.option(
    "--plot",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="With --scaling: a figure of it, PNG or SVG.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object in place of the report.")
def bench(
    against: str | None,
    compiled: bool,  # noqa: FBT001
    bf16: bool,  # noqa: FBT001
    plot: Path | None,
    as_json: bool,  # noqa: FBT001
    **chosen: Any,
) -> None:
    """Time the training step and the sampling step, and measure memory.

    The steps are those of `train` and `sample`, on random images and random weights. GFLOP/s count
    convolutions as their definition computes them, and backward as twice the forward.
    """
    modes = _modes(against, compiled=compiled, bf16=bf16)
    if plot:
        if not chosen["scaling"]:
            raise UsageError("--plot draws what --scaling measures", remedy="both")
        check_can_draw(plot)
    chosen["shard"] = chosen["shard"] or 0
    report = measure(Settings(modes=modes, **chosen), say)
    if as_json:
        click.echo(json.dumps(plain(report), ensure_ascii=False, indent=2))
    else:
        click.echo("\n".join(bench_report.lines(report)))
    if plot:
        _draw(report, plot)
        say(f"{plot}")


def _modes(against: str | None, *, compiled: bool, bf16: bool) -> tuple[str, ...]:
    """How PyTorch is to run; refused before the work if it is not there."""
    extras = tuple(mode for mode, on in (("compile", compiled), ("bf16", bf16)) if on)
    if against is None:
        if extras:
            raise UsageError("--compile and --bf16 are PyTorch's", remedy="--against torch")
        return ()
    load_torch()
    return ("eager", *extras)


def _draw(report: Report, path: Path) -> None:
    scaling = report.scaling
    if scaling is None:
        return

    def series(name: str, points: list[Point], values: list[int]) -> Series:
        return Series(
            name,
            values,
            [1e3 * p.per_image for p in points],
            [1e3 * p.overhead * p.per_image for p in points],
            [1e3 * p.flops * p.per_image * report.settings.threads / report.peak for p in points],
        )

    varied = [
        series("images in a shard", scaling.batch, [p.images for p in scaling.batch]),
        series("channels", scaling.channels, [p.channels for p in scaling.channels]),
        series("pixels of a side", scaling.size, [p.size for p in scaling.size]),
    ]
    title = f"{report.settings.preset}: forward and backward on one thread"
    draw_and_save(lambda: scaling_figure(varied, title=title), path)
