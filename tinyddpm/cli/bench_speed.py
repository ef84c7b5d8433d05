"""What ``tinyddpm bench`` does: the speed and memory of the steps, on either device."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import click

from tinyddpm.benchmark import on_cpu, on_cuda
from tinyddpm.benchmark.against import load_torch
from tinyddpm.benchmark.report import Report, Settings, plain
from tinyddpm.benchmark.scaling import Point
from tinyddpm.cli import bench_report
from tinyddpm.cli.messages import say
from tinyddpm.cli.train_plan import check_memory
from tinyddpm.errors import UsageError
from tinyddpm.figures.scaling_plot import Series, scaling_figure
from tinyddpm.figures.style import check_can_draw, draw_and_save
from tinyddpm.kernels.cuda.runtime import Precision
from tinyddpm.nn.unet import UNet
from tinyddpm.parallel import available_cores
from tinyddpm.training.kernel_choice import kernels_for

BATCH = {"cpu": 64, "cuda": 128}
LARGE_ON_A_CPU = {"cifar10", "cifar10-improved"}  # 64 images take PyTorch a quarter of a minute
LARGE_BATCH = 8


@dataclass(frozen=True, kw_only=True)
class SpeedRequest:
    """The options of speed and memory, as given."""

    preset: str
    batch: int | None
    shard: int | None
    threads: int
    device: str
    precision: Precision
    rounds: int
    steps: int | None
    ops: bool
    memory: bool
    growth: int
    against: str | None
    compiled: bool
    bf16: bool
    scaling: bool
    plot: Path | None
    as_json: bool


def measure_speed(request: SpeedRequest) -> None:
    """Measure, and say what was found."""
    modes = _modes(request)
    if request.plot:
        if not request.scaling:
            raise UsageError("--plot draws what --scaling measures", remedy="both")
        check_can_draw(request.plot)
    settings = Settings(
        preset=request.preset,
        batch=request.batch or _batch(request.preset, request.device),
        shard=request.shard or 0,
        threads=request.threads,
        device=request.device,
        precision=request.precision if request.device == "cuda" else "fp32",
        rounds=request.rounds,
        steps=request.steps or 0,
        ops=request.ops,
        memory=request.memory,
        growth=request.growth,
        modes=modes,
        scaling=request.scaling,
    )
    report = measure(settings)
    if request.as_json:
        click.echo(json.dumps(plain(report), ensure_ascii=False, indent=2))
    else:
        click.echo("\n".join(bench_report.lines(report)))
    if request.plot:
        _draw(report, request.plot)
        say(f"{request.plot}")


def measure(settings: Settings) -> Report:
    """Measure on the device of ``settings``; on a CPU, if its memory can hold a step at all."""
    if settings.device == "cuda":
        return on_cuda.measure(settings, say)
    config, threads = settings.config(), settings.threads or available_cores()
    check_memory(config, UNet(config.network, kernels=kernels_for("cpu")), threads)
    return on_cpu.measure(settings, say)


def _batch(preset: str, device: str) -> int:
    """How many images a step are timed, unless told."""
    return LARGE_BATCH if device == "cpu" and preset in LARGE_ON_A_CPU else BATCH[device]


def _modes(request: SpeedRequest) -> tuple[str, ...]:
    """How PyTorch is to run; refused before the work if it is not there."""
    compilers = ("compile", "reduce-overhead") if request.device == "cuda" else ("compile",)
    extras = (*(compilers if request.compiled else ()), *(("bf16",) if request.bf16 else ()))
    if request.against is None:
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
