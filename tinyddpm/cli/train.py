"""``tinyddpm train``."""

from __future__ import annotations

import sys
from collections import deque
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import click

from tinyddpm import data as data_sets
from tinyddpm import optim
from tinyddpm.arrays import cuda_obstacle, resolve_device
from tinyddpm.cli.messages import say
from tinyddpm.cli.options import RUNS, device_option, seed_type, threads_option
from tinyddpm.cli.progress import Progress
from tinyddpm.cli.run_data import data_of
from tinyddpm.cli.signals import StopSignals
from tinyddpm.data import Dataset
from tinyddpm.diffusion.gaussian import Prediction, Variance
from tinyddpm.diffusion.losses import VLB_WEIGHT, Objective
from tinyddpm.errors import UsageError
from tinyddpm.nn.config import PRESETS
from tinyddpm.nn.unet import UNet
from tinyddpm.parallel import available_cores
from tinyddpm.training import loop, run_directory
from tinyddpm.training.checkpoint import Checkpoint
from tinyddpm.training.config import (
    DEFAULT_PRESET,
    RunConfig,
    ScheduleName,
    TimeSampling,
    fit_to,
    recipe,
)
from tinyddpm.training.run_directory import RunDirectory
from tinyddpm.training.step import StepReport

CHAIN_OPTIONS = {"schedule", "T", "predict", "variance", "objective", "vlb_weight", "times"}


EXAMPLES = """\b
Examples:
  tinyddpm train --data mnist
  tinyddpm train --data mnist --train-steps 2000 --out runs/short
  tinyddpm train --resume runs/short --train-steps 4000
"""


@click.command(epilog=EXAMPLES, short_help="Train a network.")
@click.option("--data", metavar="NAME", help=f"{', '.join(data_sets.LOADERS)}.  [default: glyphs]")
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path),
    help="Folder with the data set's files.  "
    "[default: $TINYDDPM_DATA/NAME, the cache, a download into it]",
)
@click.option(
    "--preset",
    metavar="NAME",
    help=f"Network and recipe: {', '.join(PRESETS)}.  [default: the data set's]",
)
@click.option(
    "--train-steps",
    type=int,
    metavar="N",
    help="Steps in all, from the beginning.  [default: the preset's]",
)
@click.option("--batch", type=int, metavar="N", help="Images per step.  [default: the preset's]")
@click.option(
    "--shard",
    type=int,
    metavar="N",
    help="Images that one thread takes at a time.  [default: the preset's]",
)
@click.option("--lr", type=float, metavar="X", help="Learning rate.  [default: the preset's]")
@click.option(
    "--conditional",
    is_flag=True,
    default=None,
    help="Tell the network the class of each image, and sometimes not, for guidance.",
)
@click.option(
    "--schedule",
    type=click.Choice(get_args(ScheduleName)),
    help="How much noise each step adds.  [default: the preset's]",
)
@click.option(
    "--diffusion-steps",
    "T",
    type=click.IntRange(min=1),
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
    help="Variance of each step of the way back.  [default: the preset's]",
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
    help="λ of the hybrid, in mean square per bit/dim of the bound summed over t.  "
    f"[default: {VLB_WEIGHT}]",
)
@click.option(
    "--times",
    type=click.Choice(get_args(TimeSampling)),
    help="How t is drawn: evenly, or where the loss is large.  [default: the preset's]",
)
@click.option("--seed", type=seed_type, help="Seed of every random number.  [default: 0]")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Where the run is written.  [default: runs/NAME-1, or the next number that is free]",
)
@click.option(
    "--resume",
    type=click.Path(path_type=Path),
    metavar="RUN",
    help="Go on with this run; of the options above only --train-steps and --data-dir may be "
    "others.",
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
    help="Steps between preview grids (16 images, 50 steps); 0: none.",
)
@threads_option
@device_option
def train(
    resume: Path | None,
    out: Path | None,
    threads: int,
    device: str,
    save_every: int,
    preview_every: int,
    **chosen: Any,
) -> None:
    """Train a network, and leave a run directory to sample from.

    The result depends on the options down to --seed alone. Ctrl-C or SIGTERM finishes the step,
    saves, and says how to go on.
    """
    given = {key: value for key, value in chosen.items() if value is not None}
    device = _say_device(device)
    execution = loop.Execution(threads, device, save_every, preview_every)
    if resume:
        if out:
            raise UsageError("--resume writes into the run it goes on with", remedy="no --out")
        run, config, dataset, checkpoint = _resumed(resume, given)
        if checkpoint and checkpoint.step >= config.train_steps:
            say(
                f"{resume} is at step {checkpoint.step} of {config.train_steps}: nothing to "
                "do (--train-steps N, counted from the beginning, prolongs it)"
            )
            return
    else:
        config, dataset = _new_config(given)
        path = out or run_directory.next_free(RUNS, config.data)
        run, checkpoint = RunDirectory.create(path, config.to_json()), None
    _say_what(config, dataset, execution, checkpoint.step if checkpoint else 0)
    _run(config, dataset, run, execution, checkpoint)


def _new_config(given: dict[str, Any]) -> tuple[RunConfig, Dataset]:
    name = given.pop("data", "glyphs")
    data_dir = given.pop("data_dir", None)
    dataset = data_sets.load(name, data_dir=data_dir)
    preset = given.pop("preset", DEFAULT_PRESET.get(name, "mnist"))
    where = str(dataset.folder.absolute()) if dataset.folder else ""
    class_names = dataset.class_names if given.pop("conditional", False) else ()
    config = _with_options(replace(recipe(preset, name), data_dir=where), given)
    made_for, size = config.network.image_size, dataset.images.shape[1]
    if made_for != size:
        say(f"note: preset {preset} is made for {made_for} pixels, and is fitted to {size}")
    return fit_to(config, dataset.images.shape, class_names), dataset


def _with_options(config: RunConfig, given: dict[str, Any]) -> RunConfig:
    chain = {key: given[key] for key in CHAIN_OPTIONS & given.keys()}
    rest = {key: given[key] for key in given.keys() - CHAIN_OPTIONS}
    return replace(config, diffusion=replace(config.diffusion, **chain), **rest)


def _resumed(
    path: Path, given: dict[str, Any]
) -> tuple[RunDirectory, RunConfig, Dataset, Checkpoint | None]:
    run = RunDirectory.open(path)
    if not run.saved():  # it was stopped before its first checkpoint: it begins anew
        config = _as_it_was(RunConfig.from_json(run.read_config()), given)
        return run, config, data_of(config), None
    found = run.latest_checkpoint()
    if found.warning:
        say(f"warning: {found.warning}")
    saved = RunConfig.from_json(found.checkpoint.config)
    config = _as_it_was(saved, given)
    loop.check_same_config(config, found.checkpoint)
    dataset = data_of(config)
    loop.check_same_data(dataset, found.checkpoint)
    return run, config, dataset, found.checkpoint


def _as_it_was(saved: RunConfig, given: dict[str, Any]) -> RunConfig:
    """The configuration with what was ``given`` anew."""
    if given.pop("conditional", False) and not saved.class_names:
        raise UsageError("the run was begun without classes", remedy="leave out --conditional")
    if "data_dir" in given:
        given["data_dir"] = str(given["data_dir"].absolute())
    return _with_options(saved, given)


def _run(
    config: RunConfig,
    dataset: Dataset,
    run: RunDirectory,
    execution: loop.Execution,
    checkpoint: Checkpoint | None,
) -> None:
    first = checkpoint.step if checkpoint else 0
    total, label = config.train_steps - first, f"training {config.data}"
    with StopSignals() as signals:
        with Progress(label, total, images=config.batch, first=first) as progress:
            smooth = _SmoothLoss()

            def after_step(_step: int, report: StepReport) -> None:
                progress.advance(f"loss {smooth(report.loss):.4f}")

            hooks = loop.Hooks(after_step, signals.asked)
            last = loop.train(config, dataset, run, execution, hooks, checkpoint)
        if signals.asked() and last < config.train_steps:
            go_on = f"tinyddpm train --resume {run.path}"
            say(f"saved step {last}; go on with: {go_on}")
            sys.exit(signals.exit_code)
    say(f"sample it with: tinyddpm sample {run.path}")
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
        say(f"device: cpu; no GPU: {cuda_obstacle()}")
    return resolved


def _say_what(config: RunConfig, dataset: Dataset, execution: loop.Execution, first: int) -> None:
    parameters = UNet(config.network).parameters.count
    half_life = optim.ema_half_life(config.ema_decay)
    threads = execution.threads or available_cores()
    going_on = f"going on from step {first:,}: " if first else ""
    say(
        f"{going_on}{len(dataset.images):,} images of {config.data}, preset {config.preset}: "
        f"{parameters:,} parameters, {config.train_steps:,} steps of {config.batch} images, "
        f"{threads} threads, seed {config.seed}, "
        f"EMA decay {config.ema_decay} (half-life {half_life:.0f} steps)"
    )
