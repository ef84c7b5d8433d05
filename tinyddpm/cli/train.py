"""``tinyddpm train``."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable
from pathlib import Path
from shlex import quote
from typing import Any, get_args

import click

from tinyddpm import data as data_sets
from tinyddpm import optim
from tinyddpm.arrays import cuda_obstacle, resolve_device
from tinyddpm.cli import dry_run, print_config, train_plan
from tinyddpm.cli.completion import complete_data, complete_preset, complete_run
from tinyddpm.cli.messages import say
from tinyddpm.cli.options import (
    RUNS,
    AnyPath,
    Count,
    RunPath,
    device_option,
    precision_option,
    seed_type,
    threads_option,
)
from tinyddpm.cli.progress import Progress
from tinyddpm.cli.settings import config_option
from tinyddpm.cli.signals import StopSignals
from tinyddpm.cli.terminal_preview import show_previews
from tinyddpm.cli.train_plan import Plan
from tinyddpm.data.dataset import ByteArray
from tinyddpm.diffusion.gaussian import Prediction, Variance
from tinyddpm.diffusion.losses import VLB_WEIGHT, Objective
from tinyddpm.errors import UsageError
from tinyddpm.kernels.cuda.runtime import Precision
from tinyddpm.nn.config import PRESETS
from tinyddpm.parallel import available_cores
from tinyddpm.training import loop, run_directory
from tinyddpm.training.config import ScheduleName, TimeSampling
from tinyddpm.training.run_directory import RunDirectory
from tinyddpm.training.step import StepReport

EXAMPLES = """\b
Examples:
  tinyddpm train --data mnist
  tinyddpm train --data mnist --dry-run
  tinyddpm train --data mnist --train-steps 2000 --out runs/short
  tinyddpm train --resume runs/short --train-steps 4000
  tinyddpm train --data mnist --batch 32 --print-config > mine.toml
  tinyddpm train --config mine.toml --seed 1
"""
LONGEST_CHAIN = 1_000_000


@click.command(epilog=EXAMPLES, short_help="Train a network.")
@click.option(
    "--data",
    metavar="NAME",
    shell_complete=complete_data,
    help=f"{', '.join(data_sets.LOADERS)}, a folder of pictures, or a .npz or .npy file.  "
    "[default: glyphs]",
)
@click.option(
    "--data-dir",
    type=AnyPath(),
    help="Folder with the data set's files.  "
    "[default: $TINYDDPM_DATA/NAME, the cache, a download into it]",
)
@click.option(
    "--image-size",
    type=click.IntRange(min=1),
    metavar="N",
    help="Height and width to which the pictures of a folder are resized.  [default: their own, if "
    "all are squares of one size up to 64; else 32, or less if some are smaller]",
)
@click.option(
    "--skip-bad/--no-skip-bad",
    default=None,
    help="Leave out pictures of a folder that cannot be read.  [default: no]",
)
@click.option(
    "--preset",
    metavar="NAME",
    shell_complete=complete_preset,
    help=f"Network and recipe: {', '.join(PRESETS)}.  [default: the data set's]",
)
@click.option(
    "--train-steps",
    type=click.IntRange(min=1),
    metavar="N",
    help="Steps in total, counted from the beginning.  [default: the preset's]",
)
@click.option(
    "--batch",
    type=Count(min=1),
    metavar="N",
    help="Images per step.  [default: the preset's]",
)
@click.option(
    "--shard",
    type=click.IntRange(min=1),
    metavar="N",
    help="Images that a worker takes at a time.  [default: the preset's]",
)
@click.option("--lr", type=float, metavar="X", help="Learning rate.  [default: the preset's]")
@click.option(
    "--decay-from",
    type=click.IntRange(min=0),
    metavar="N",
    help="Step from which the learning rate falls as 1/√step; 0: it stays constant.  "
    "[default: the preset's]",
)
@click.option(
    "--conditional/--no-conditional",
    default=None,
    help="Tell the network the class of each image, or now and then none, for guidance.  "
    "[default: no]",
)
@click.option(
    "--schedule",
    type=click.Choice(get_args(ScheduleName)),
    help="How much noise each step adds.  [default: the preset's]",
)
@click.option(
    "--diffusion-steps",
    "T",
    type=click.IntRange(1, LONGEST_CHAIN),
    metavar="T",
    help="Length of the chain.  [default: the preset's]",
)
@click.option(
    "--predict",
    type=click.Choice(get_args(Prediction)),
    help="What the network's output stands for.  [default: the preset's]",
)
@click.option(
    "--variance",
    type=click.Choice(get_args(Variance)),
    help="Variance of each reverse step.  [default: the preset's]",
)
@click.option(
    "--objective",
    type=click.Choice(get_args(Objective)),
    help="What is minimised.  [default: simple; hybrid for a learned variance]",
)
@click.option(
    "--vlb-weight",
    type=click.FloatRange(min=0.0),
    metavar="X",
    help="λ of the hybrid objective, in mean square per bit/dim of the bound summed over t.  "
    f"[default: {VLB_WEIGHT}]",
)
@click.option(
    "--times",
    type=click.Choice(get_args(TimeSampling)),
    help="How t is drawn: evenly, or where the loss is large.  [default: the preset's]",
)
@click.option(
    "--seed", type=seed_type, metavar="N", help="Seed of every random number.  [default: 0]"
)
@click.option(
    "--out",
    type=AnyPath(),
    metavar="DIR",
    help="Where the run is written.  [default: runs/NAME-1, or the next free number]",
)
@click.option(
    "--resume",
    type=RunPath(),
    metavar="RUN",
    shell_complete=complete_run,
    help="Go on with this run; of the options above, only --train-steps and --data-dir may change.",
)
@click.option(
    "--save-every",
    type=click.IntRange(min=0),
    default=1000,
    metavar="N",
    help="Steps between checkpoints; 0: only at the end.",
)
@click.option(
    "--preview-every",
    type=click.IntRange(min=0),
    default=1000,
    metavar="N",
    help="Steps between previews (16 images, 50 steps), with one more at the end; 0: none.",
)
@click.option(
    "--preview-terminal/--no-preview-terminal",
    help="Also show part of each preview in the terminal.",
)
@threads_option
@device_option
@precision_option
@config_option
@click.option(
    "--print-config",
    "printing",
    is_flag=True,
    help="Print every setting and where it comes from, and do nothing else.",
)
@click.option(
    "--dry-run",
    "dry",
    is_flag=True,
    help="Print the parameters, memory, disk space and, after a few trial steps, time that the run "
    "takes; leave no run.",
)
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Print the answer of --print-config or --dry-run as JSON.",
)
@click.pass_context
def train(
    ctx: click.Context,
    /,
    resume: Path | None,
    out: Path | None,
    threads: int,
    device: str,
    precision: Precision,
    save_every: int,
    preview_every: int,
    preview_terminal: bool,  # noqa: FBT001
    printing: bool,  # noqa: FBT001
    dry: bool,  # noqa: FBT001
    as_json: bool,  # noqa: FBT001
    **chosen: Any,
) -> None:
    """Train a network, and leave a run directory to sample from.

    The result depends only on the options down to --seed and, in its rounding, on --device and
    --precision. On Ctrl-C or SIGTERM the program finishes the step, saves the run, and says how to
    go on.
    """
    given = {key: value for key, value in chosen.items() if value is not None}
    if out and resume and out != resume:
        raise UsageError("--resume writes into the run it goes on with", remedy="no --out")
    if as_json and not (printing or dry):
        raise UsageError("--json is for --print-config and --dry-run")
    device = _say_device(device)
    execution = loop.Execution(threads, device, save_every, preview_every, precision)
    show = show_previews(preview_every) if preview_terminal else None
    plan = train_plan.resumed(resume, given) if resume else train_plan.new(given)
    if printing:
        print_config.show(print_config.resolved(ctx, plan.config), as_json=as_json)
    elif dry:
        dry_run.show(plan, execution, out or RUNS, as_json=as_json)
    elif plan.first == plan.config.train_steps:
        say(
            f"{resume} is at step {plan.first} of {plan.config.train_steps}: nothing to "
            "do (a larger --train-steps, counted from the beginning, prolongs it)"
        )
    else:
        parameters = train_plan.check_fits(plan, execution, resume or out or RUNS)
        _say_what(plan, execution, parameters)
        _run(plan, plan.run or _begin(plan, out), execution, show)


def _begin(plan: Plan, out: Path | None) -> RunDirectory:
    path = out or run_directory.next_free(RUNS, plan.dataset.name)
    return RunDirectory.create(path, plan.config.to_json())


def _run(
    plan: Plan,
    run: RunDirectory,
    execution: loop.Execution,
    show: Callable[[ByteArray], None] | None,
) -> None:
    config, first = plan.config, plan.first
    total, label = config.train_steps - first, f"training {plan.dataset.name}"
    with StopSignals() as signals:
        with Progress(label, total, images=config.batch, first=first) as progress:
            smooth = _SmoothLoss()

            def after_step(_step: int, report: StepReport) -> None:
                progress.advance(f"loss {smooth(report.loss):.4f}")

            hooks = loop.Hooks(after_step, signals.asked, show)
            last = loop.train(config, plan.dataset, run, execution, hooks, plan.checkpoint)
        if signals.asked() and last < config.train_steps:
            go_on = f"tinyddpm train --resume {quote(str(run.path))}"
            say(f"saved step {last}; go on with: {go_on}")
            sys.exit(signals.exit_code)
    say(f"sample it with: tinyddpm sample {quote(str(run.path))}")
    click.echo(run.path)


class _SmoothLoss:
    """The mean of the last 50 losses, for the eye; the metrics hold every value as it is."""

    def __init__(self) -> None:
        self._recent: deque[float] = deque(maxlen=50)

    def __call__(self, loss: float) -> float:
        self._recent.append(loss)
        return sum(self._recent) / len(self._recent)


def _say_device(device: str) -> str:
    resolved = resolve_device(device)
    if device == "auto" and resolved == "cpu":
        say(f"device: cpu (no GPU: {cuda_obstacle()})")
    return resolved


def _say_what(plan: Plan, execution: loop.Execution, parameters: int) -> None:
    config = plan.config
    half_life = optim.ema_half_life(config.ema_decay)
    threads = execution.threads or available_cores()
    going_on = f"going on from step {plan.first:,}: " if plan.run else ""
    images = f"{len(plan.dataset.images):,} images of {plan.dataset.name}"
    say(
        f"{going_on}{images}, preset {config.preset}: {parameters:,} parameters, "
        f"{config.train_steps:,} steps of {config.batch} images, "
        f"{threads} worker{'s' * (threads > 1)}, seed {config.seed}, "
        f"EMA decay {config.ema_decay} (half-life {half_life:.0f} steps)"
    )
