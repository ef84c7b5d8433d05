"""``tinyddpm bench``."""

from __future__ import annotations

from typing import Any

import click

from tinyddpm.arrays import resolve_device
from tinyddpm.benchmark.quality_settings import MOST_SAMPLES, SAMPLES, SEEDS, STEPS
from tinyddpm.cli.bench_quality import QualityRequest, time_to_quality
from tinyddpm.cli.bench_speed import SpeedRequest, measure_speed
from tinyddpm.cli.options import (
    AnyPath,
    parameters_of,
    precision_option,
    refuse_others,
    request_of,
    threads_option,
)
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

# Options, by parameter, that mean something on one kind of device alone.
CPU_ALONE = {"shard", "threads", "growth", "bf16", "scaling", "plot"}
GPU_ALONE = {"precision"}


@click.command(epilog=EXAMPLES, short_help="Measure speed and memory.")
@click.option("--preset", type=click.Choice(list(PRESETS)), default="mnist", help="The network.")
@click.option(
    "--batch",
    type=click.IntRange(min=1),
    metavar="N",
    help="Images per step.  [default: 64, or 8 for cifar10's networks; on a GPU 128]",
)
@click.option(
    "--shard",
    type=click.IntRange(min=1),
    default=None,
    metavar="N",
    help="Images that a worker takes at a time.  [default: the preset's]",
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
    help="Turns of each contestant; medians are reported.",
)
@click.option(
    "--steps",
    type=click.IntRange(min=0),
    metavar="N",
    help="Steps of a turn; 0: as many as take a quarter of a second.  [default: 0]  "
    f"--time-to-quality: of the reverse chain.  [default: {STEPS}]",
)
@click.option(
    "--ops/--no-ops",
    default=True,
    help="Also time the training step by op, on one thread; on a GPU by kernel.",
)
@click.option(
    "--memory/--no-memory", default=True, help="Measure the peak memory of five training steps."
)
@click.option(
    "--growth",
    type=click.IntRange(min=0),
    default=0,
    metavar="N",
    help="Measure the memory before and after N training steps; 0: do not.",
)
@click.option(
    "--against",
    type=click.Choice(["torch"]),
    help="Also time the same network in PyTorch, in turns with ours, in both memory formats; on a "
    "GPU in channels last and the same precision.",
)
@click.option(
    "--compile",
    "compiled",
    is_flag=True,
    help="With --against: also torch.compile; on a GPU in its modes default and reduce-overhead.",
)
@click.option("--bf16", is_flag=True, help="With --against: also autocast to bfloat16.")
@click.option("--scaling", is_flag=True, help="Also time an image by batch, channels and size.")
@click.option(
    "--plot",
    type=AnyPath(dir_okay=False),
    metavar="FILE",
    help="With --scaling: draw a figure of it, .png or .svg.",
)
@click.option(
    "--time-to-quality",
    is_flag=True,
    help="Instead, train on MNIST against the clock, and judge the samples.",
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
    help="--time-to-quality: number of trainings; mean and spread are reported.",
)
@click.option(
    "--samples",
    type=click.IntRange(2, MOST_SAMPLES),
    default=SAMPLES,
    metavar="N",
    help="--time-to-quality: images by which each training is judged.",
)
@click.option(
    "--data-dir",
    type=AnyPath(),
    help="--time-to-quality: folder with MNIST's files.  "
    "[default: $TINYDDPM_DATA/mnist, the cache, a download into it]",
)
@click.option(
    "--out",
    type=AnyPath(),
    metavar="DIR",
    help="--time-to-quality: where runs and records are kept.  "
    "[default: runs/time-to-quality-PRESET]",
)
@click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON object instead of the report."
)
def bench(**given: Any) -> None:
    """Time the training step and the sampling step, and measure memory.

    The steps are those of `train` and `sample`, on random images and random weights. GFLOP/s count
    convolutions as their definition computes them, and backward as twice the forward.

    On a GPU a turn is timed between two events of the device. What is done only once is done before
    that: kernels are compiled, steps are recorded. Scaling, growth and time to quality are measured
    on a CPU only.

    --time-to-quality instead trains on MNIST once for each seed, for as long as the preset's recipe
    says; no training is stopped early because its samples are good. The clock runs from the first
    access to the data until the last checkpoint is written, without previews. Then samples are
    generated and judged as by `evaluate --samples`. If it was stopped, the same command goes on
    with what is missing; a training that was stopped begins anew, for its clock must not stop.
    Records of another machine or configuration in the same folder are refused.
    """
    context = click.get_current_context()
    speed, quality = parameters_of(SpeedRequest), parameters_of(QualityRequest)
    if given["device"] == "cuda":
        refuse_others(context, "bench --device cuda", speed - CPU_ALONE)
        resolve_device("cuda")
        measure_speed(request_of(SpeedRequest, given))
        return
    refuse_others(context, "bench on a CPU", given.keys() - GPU_ALONE)
    if given["time_to_quality"]:
        refuse_others(context, "--time-to-quality", {"time_to_quality", *quality})
        time_to_quality(request_of(QualityRequest, given))
    else:
        refuse_others(context, "bench without --time-to-quality", speed)
        measure_speed(request_of(SpeedRequest, given))
