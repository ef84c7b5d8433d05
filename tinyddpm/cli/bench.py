"""``tinyddpm bench``."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import click

from tinyddpm.arrays import resolve_device
from tinyddpm.benchmark import on_cpu, on_cuda
from tinyddpm.benchmark.against import load_torch
from tinyddpm.benchmark.quality_settings import MOST_SAMPLES
from tinyddpm.benchmark.report import Report, Settings, plain
from tinyddpm.benchmark.scaling import Point
from tinyddpm.cli import bench_report
from tinyddpm.cli.bench_quality import SAMPLES, SEEDS, STEPS, QualityRequest, time_to_quality
from tinyddpm.cli.messages import say
from tinyddpm.cli.options import precision_option, refuse_others, threads_option
from tinyddpm.errors import UsageError
from tinyddpm.figures.scaling_plot import Series, scaling_figure
from tinyddpm.figures.style import check_can_draw, draw_and_save
from tinyddpm.kernels.cuda.runtime import Precision
from tinyddpm.nn.config import PRESETS

EXAMPLES = """\b
Examples:
  tinyddpm bench
  tinyddpm bench --preset mnist-1.7m --against torch
  tinyddpm bench --preset cifar10 --no-ops --no-memory
  tinyddpm bench --scaling --plot scaling.png
  tinyddpm bench --device cuda --preset cifar10 --precision bf16 --against torch --compile
  tinyddpm bench --time-to-quality
  tinyddpm bench --time-to-quality --train-steps 2000 --seeds 1 --json
"""

BATCH = {"cpu": 64, "cuda": 128}
LARGE_ON_A_CPU = {"cifar10", "cifar10-improved"}  # 64 images take PyTorch a quarter of a minute
LARGE_BATCH = 8
# Options, by parameter, that mean something to a GPU alone and to a CPU alone.
OF_GPU = {"precision"}
OF_CPU = {"shard", "threads", "growth", "bf16", "scaling", "plot"}
# Those of both measurements on a CPU and of --time-to-quality alone.
SHARED = {"preset", "threads", "device", "steps", "as_json"}
OF_QUALITY = {"time_to_quality", "train_steps", "seeds", "samples", "data_dir", "out"}


@click.command(epilog=EXAMPLES, short_help="Measure speed and memory.")
@click.option("--preset", type=click.Choice(list(PRESETS)), default="mnist", help="The network.")
@click.option(
    "--batch",
    type=click.IntRange(min=1),
    metavar="N",
    help="Images a step.  [default: 64, of cifar10's networks 8; on a GPU 128]",
)
@click.option(
    "--shard",
    type=click.IntRange(min=1),
    default=None,
    metavar="N",
    help="Images that one worker takes at a time.  [default: the preset's]",
)
@threads_option
@click.option(
    "--device", type=click.Choice(["cpu", "cuda"]), default="cpu", help="Where to compute."
)
@precision_option
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
    metavar="N",
    help="Steps of a turn, 0: as many as take a quarter of a second.  [default: 0]  "
    f"--time-to-quality: of the reverse chain.  [default: {STEPS}]",
)
@click.option(
    "--ops/--no-ops",
    default=True,
    help="The training step by op, on one thread; on a GPU by kernel.",
)
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
    help="The same network in PyTorch beside it, in turns, in both memory formats; on a GPU in "
    "channels last and the same precision.",
)
@click.option(
    "--compile",
    "compiled",
    is_flag=True,
    help="With --against: torch.compile too; on a GPU in its modes default and reduce-overhead.",
)
@click.option("--bf16", is_flag=True, help="With --against: autocast to bfloat16 too.")
@click.option("--scaling", is_flag=True, help="Time of an image by batch, channels and size.")
@click.option(
    "--plot",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="With --scaling: a figure of it, PNG or SVG.",
)
@click.option(
    "--time-to-quality",
    is_flag=True,
    help="Instead: train on MNIST by the clock, and judge what is sampled then.",
)
@click.option(
    "--train-steps",
    type=click.IntRange(min=1),
    metavar="N",
    help="--time-to-quality: steps of training.  [default: the preset's]",
)
@click.option(
    "--seeds",
    type=click.IntRange(min=1),
    default=SEEDS,
    metavar="N",
    help="--time-to-quality: trainings, of which mean and spread are told.",
)
@click.option(
    "--samples",
    type=click.IntRange(2, MOST_SAMPLES),
    default=SAMPLES,
    metavar="N",
    help="--time-to-quality: images that each is judged by.",
)
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path),
    help="--time-to-quality: folder with MNIST's files.  "
    "[default: $TINYDDPM_DATA/mnist, the cache, a download into it]",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="--time-to-quality: where runs and records are kept.  "
    "[default: runs/time-to-quality-PRESET]",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object in place of the report.")
def bench(**given: Any) -> None:
    """Time the training step and the sampling step, and measure memory.

    The steps are those of `train` and `sample`, on random images and random weights. GFLOP/s count
    convolutions as their definition computes them, and backward as twice the forward.

    On a GPU a turn lies between two events of the device. What is done once is done before: kernels
    are compiled, steps are recorded. Scaling, growth and time to quality are a CPU's.

    --time-to-quality trains on MNIST instead, once for each seed, as long as the preset's recipe
    says, and nothing is stopped early because its samples are good. The clock runs from the first
    touch of the data to the last checkpoint written, without previews. Then samples are generated
    and judged as by `evaluate --samples`. Stopped and asked again, it goes on with what is missing;
    a seed that was stopped while it trained begins anew, for its clock must be one sitting. Records
    of another machine or configuration in the same folder are refused.
    """
    context = click.get_current_context()
    of_speed = {name: given[name] for name in given.keys() - OF_QUALITY}
    if given["device"] == "cuda":
        refuse_others(context, "bench --device cuda", of_speed.keys() - OF_CPU)
        resolve_device("cuda")
        _measure(**of_speed)
        return
    refuse_others(context, "bench on a CPU", given.keys() - OF_GPU)
    if given["time_to_quality"]:
        refuse_others(context, "--time-to-quality", SHARED | OF_QUALITY)
        names = [field.name for field in fields(QualityRequest)]
        time_to_quality(QualityRequest(**{name: given[name] for name in names}))
    else:
        refuse_others(context, "bench without --time-to-quality", {*of_speed})
        _measure(**of_speed)


def _measure(
    *,
    device: str,
    batch: int | None,
    precision: Precision,
    against: str | None,
    compiled: bool,
    bf16: bool,
    plot: Path | None,
    as_json: bool,
    **chosen: Any,
) -> None:
    """Measure speed and memory, and say what was found."""
    modes = _modes(against, device, compiled=compiled, bf16=bf16)
    if plot:
        if not chosen["scaling"]:
            raise UsageError("--plot draws what --scaling measures", remedy="both")
        check_can_draw(plot)
    chosen |= {name: chosen[name] or 0 for name in ("shard", "steps")}
    chosen |= {"device": device, "batch": batch or _batch(chosen["preset"], device)}
    chosen["precision"] = precision if device == "cuda" else "fp32"
    report = measure(Settings(modes=modes, **chosen))
    if as_json:
        click.echo(json.dumps(plain(report), ensure_ascii=False, indent=2))
    else:
        click.echo("\n".join(bench_report.lines(report)))
    if plot:
        _draw(report, plot)
        say(f"{plot}")


def _batch(preset: str, device: str) -> int:
    """How many images a step are timed, unless told."""
    return LARGE_BATCH if device == "cpu" and preset in LARGE_ON_A_CPU else BATCH[device]


def measure(settings: Settings) -> Report:
    """Measure on the device of ``settings``."""
    if settings.device == "cuda":
        return on_cuda.measure(settings, say)
    return on_cpu.measure(settings, say)


def _modes(against: str | None, device: str, *, compiled: bool, bf16: bool) -> tuple[str, ...]:
    """How PyTorch is to run; refused before the work if it is not there."""
    compilers = ("compile", "reduce-overhead") if device == "cuda" else ("compile",)
    extras = (*(compilers if compiled else ()), *(("bf16",) if bf16 else ()))
    if against is None:
        if extras:
            raise UsageError("--compile and --bf16 are PyTorch's", remedy="--against torch")
        return ()
    load_torch()
    return ("eager", *extras)


def _draw(report: Report, path: Path) -> None:
    scaling = report.scaling
    if scaling is None or report.peak is None:
        return
    peak = report.peak / report.settings.threads  # of one thread

    def series(name: str, points: list[Point], values: list[int]) -> Series:
        return Series(
            name,
            values,
            [1e3 * p.per_image for p in points],
            [1e3 * p.overhead * p.per_image for p in points],
            [1e3 * p.flops * p.per_image / peak for p in points],
        )

    varied = [
        series("images in a shard", scaling.batch, [p.images for p in scaling.batch]),
        series("channels", scaling.channels, [p.channels for p in scaling.channels]),
        series("pixels of a side", scaling.size, [p.size for p in scaling.size]),
    ]
    title = f"{report.settings.preset}: forward and backward on one thread"
    draw_and_save(lambda: scaling_figure(varied, title=title), path)
