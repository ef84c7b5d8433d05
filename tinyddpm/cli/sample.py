"""``tinyddpm sample``."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import click
import numpy as np
import numpy.typing as npt

from tinyddpm.arrays import resolve_device, to_host
from tinyddpm.cli.completion import complete_run
from tinyddpm.cli.messages import say
from tinyddpm.cli.options import (
    AnyPath,
    Count,
    RunPath,
    check_steps,
    device_option,
    finite,
    precision_option,
    seed_type,
    threads_option,
    weights_option,
)
from tinyddpm.cli.progress import Progress
from tinyddpm.cli.run_data import checkpoint_of
from tinyddpm.cli.sample_files import SampleFiles
from tinyddpm.cli.sizes import size
from tinyddpm.data.dataset import ByteArray
from tinyddpm.data.pixels import to_bytes
from tinyddpm.diffusion.interpolation import noise_rows
from tinyddpm.diffusion.sampling import SampleStep
from tinyddpm.errors import UsageError
from tinyddpm.figures.animation import FRAMES, kept_times
from tinyddpm.kernels.cuda.runtime import Precision
from tinyddpm.machine import total_memory
from tinyddpm.training.model import TrainedModel, Weights, from_checkpoint

EXAMPLES = """\b
Examples:
  tinyddpm sample --steps 1000
  tinyddpm sample runs/classes --class 7 --guidance 1 --steps 50 --ddim 0
  tinyddpm sample runs/mnist-1 --steps 100 --n 16 --seed 3 --out digits.png
  tinyddpm sample --steps 1000 --gif denoising.gif
  tinyddpm sample --steps 100 --interpolate 11 --out between.png
"""
IMAGES, ROWS = 64, 8


@click.command(epilog=EXAMPLES, short_help="Generate images.")
@click.argument("run", type=RunPath(), required=False, shell_complete=complete_run)
@click.option(
    "--steps",
    type=int,
    metavar="N",
    help="Steps of the reverse chain, from 1 to the T it was trained with.  [default: T]",
)
@click.option(
    "--ddim",
    "eta",
    type=click.FloatRange(0.0, 1.0),
    callback=finite,
    metavar="ETA",
    help="Use DDIM with this η (0: no noise is added) instead of ancestral sampling.",
)
@click.option(
    "--interpolate",
    "columns",
    type=Count(min=2),
    metavar="K",
    help="Draw rows of K images, each row on the way from one noise to another (DDIM, η = 0).",
)
@click.option(
    "--class",
    "class_name",
    metavar="NAME",
    help="Draw only this class; for networks trained with --conditional.  [default: all in turn]",
)
@click.option(
    "--guidance",
    type=float,
    default=0.0,
    callback=finite,
    metavar="W",
    help="Weight of classifier-free guidance: ε = (1 + W) ε(class) − W ε(no class).",
)
@click.option(
    "--n",
    type=Count(min=1),
    metavar="N",
    help=f"Number of images.  [default: {IMAGES}; {ROWS} rows with --interpolate]",
)
@click.option("--seed", type=seed_type, metavar="N", default=0, help="Seed of the noise.")
@weights_option
@click.option(
    "--out",
    type=AnyPath(dir_okay=False),
    default=Path("samples.png"),
    metavar="FILE",
    help="Where to write the images as a grid, a PNG.",
)
@click.option(
    "--npz",
    type=AnyPath(dir_okay=False),
    metavar="FILE",
    help="Also write the images themselves: an array `images`, uint8 (N, H, W, C).",
)
@click.option(
    "--gif",
    type=AnyPath(dir_okay=False),
    metavar="FILE",
    help=f"Also write a film of the way from noise to the grid, in {FRAMES} frames: .gif, or .png "
    "(APNG), which keeps all colours.",
)
@click.option(
    "--frames",
    type=AnyPath(file_okay=False),
    metavar="DIR",
    help="Also write the frames of that film as PNG files, into a folder of their own.",
)
@threads_option
@device_option
@precision_option
def sample(
    run: Path | None,
    steps: int | None,
    eta: float | None,
    columns: int | None,
    class_name: str | None,
    guidance: float,
    n: int | None,
    seed: int,
    weights: Weights,
    out: Path,
    npz: Path | None,
    gif: Path | None,
    frames: Path | None,
    threads: int,
    device: str,
    precision: Precision,
) -> None:
    """Generate images with a trained RUN (a run directory or a checkpoint file).

    Without RUN, the one in runs/ that was trained last is taken. With fewer steps than T, a
    respaced chain is walked: strided times, with β recomputed.
    """
    files = SampleFiles(out, npz, gif, frames)
    files.check()
    n = _count(n, columns, eta)
    model = _load(run, weights, device, precision)
    files.check_size((n, *model.image_shape), columns)
    _check_memory((n, *model.image_shape))
    steps = check_steps(steps, model.diffusion.schedule.T)
    classes = model.config.class_names
    labels = _labels(class_name, classes, n)
    if columns:
        labels = _labels_of_rows(labels, classes, n // columns, columns)
        x_T = noise_rows(n // columns, columns, model.image_shape, seed=seed)
        walk = model.decode(x_T, steps=steps, labels=labels, guidance=guidance, threads=threads)
    else:
        walk = model.walk(
            n, steps=steps, eta=eta, labels=labels, guidance=guidance, seed=seed, threads=threads
        )
    film = _shoot(walk, steps, f"sampling {n}", whole=files.film)
    files.write(film, columns)


def _count(n: int | None, columns: int | None, eta: float | None) -> int:
    """How many images; a row that is interpolated needs all of its ``columns``."""
    if columns is None:
        return IMAGES if n is None else n
    if eta:
        raise UsageError(
            f"--interpolate shows what lies between two noises, and --ddim {eta:g} adds others",
            remedy="--ddim 0, or no --ddim, for --interpolate implies it",
        )
    n = ROWS * columns if n is None else n
    if n % columns:
        raise UsageError(
            f"--n {n} images cannot be laid out in rows of {columns}",
            remedy=f"--n {-(-n // columns) * columns}",
        )
    return n


def _load(run: Path | None, weights: Weights, device: str, precision: Precision) -> TrainedModel:
    found = checkpoint_of(run)
    device = resolve_device(device)
    model = from_checkpoint(found.checkpoint, weights, device, precision)
    say(f"{found.path}: step {found.checkpoint.step}, {weights} weights")
    if not found.checkpoint.step:
        say("warning: a network that has not been trained makes noise of noise")
    return model


def _check_memory(shape: tuple[int, ...]) -> None:
    """Refuse more images of ``shape`` (N, H, W, C) than the memory of this machine can hold."""
    least = 3 * 4 * math.prod(shape)  # x_t, the network's output and x_{t−1} in float32
    if least > total_memory():
        raise UsageError(
            f"{shape[0]:,} images need at least {size(least)} of memory",
            cause=f"this machine has {size(total_memory())}",
            remedy="a smaller --n; another --seed gives other images",
        )


def _shoot(walk: Iterator[SampleStep], steps: int, label: str, *, whole: bool) -> list[ByteArray]:
    """Walk to the end. Of the whole film, keep what is worth a frame, else the last one alone."""
    kept = kept_times(steps) if whole else [0]
    film = []
    with Progress(label, steps) as progress:
        for t, x, _ in walk:
            if t - 1 in kept:
                film.append(to_bytes(to_host(x)))
            progress.advance()
    return film


def _labels(
    class_name: str | None, class_names: tuple[str, ...], n: int
) -> npt.NDArray[np.int64] | None:
    """``n`` times the label of ``class_name``; None if no class was asked for."""
    if class_name is None:
        return None
    if class_name not in class_names:
        known = ", ".join(class_names)
        remedy = f"one of {known}" if known else "a network trained with --conditional"
        raise UsageError(f"the network has no class {class_name!r}", remedy=remedy)
    return np.full(n, class_names.index(class_name))


def _labels_of_rows(
    labels: npt.NDArray[np.int64] | None, class_names: tuple[str, ...], rows: int, columns: int
) -> npt.NDArray[np.int64] | None:
    """A row keeps to one class: all classes in turn, unless ``labels`` were asked for."""
    if labels is not None or not class_names:
        return labels
    return np.repeat(np.arange(rows) % len(class_names), columns)
