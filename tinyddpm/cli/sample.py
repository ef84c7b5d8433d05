"""``tinyddpm sample``."""

from __future__ import annotations

import os
from pathlib import Path

import click
import numpy as np
import numpy.typing as npt

from tinyddpm.arrays import resolve_device
from tinyddpm.cli.options import RUNS, device_option, seed_type, threads_option
from tinyddpm.cli.progress import Progress
from tinyddpm.errors import StorageError, UsageError
from tinyddpm.figures.grid import grid, save_png
from tinyddpm.files import write_atomically
from tinyddpm.training import run_directory
from tinyddpm.training.model import Weights, from_checkpoint

EXAMPLES = """\b
Examples:
  tinyddpm sample --steps 1000
  tinyddpm sample runs/classes --class 7 --guidance 1 --steps 50 --ddim 0
  tinyddpm sample runs/mnist-1 --steps 100 --n 16 --seed 3 --out digits.png
"""


@click.command(epilog=EXAMPLES, short_help="Generate images.")
@click.argument("run", type=click.Path(path_type=Path), required=False)
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
    metavar="ETA",
    help="DDIM with this η (0: no noise on the way) instead of ancestral sampling.",
)
@click.option(
    "--class",
    "class_name",
    metavar="NAME",
    help="Only this one class, for a network trained with --conditional.  [default: all in turn]",
)
@click.option(
    "--guidance",
    type=float,
    default=0.0,
    metavar="W",
    help="Weight of classifier-free guidance: ε = (1 + W) ε(class) − W ε(no class).",
)
@click.option("--n", type=click.IntRange(min=1), default=64, metavar="N", help="Images.")
@click.option("--seed", type=seed_type, default=0, help="Seed of the noise.")
@click.option(
    "--weights",
    type=click.Choice(["ema", "raw"]),
    default="ema",
    help="The moving average of the weights, or the last ones.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("samples.png"),
    metavar="FILE",
    help="The PNG grid.",
)
@click.option(
    "--npz",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Also the images themselves: array `images`, uint8 (N, H, W, C).",
)
@threads_option
@device_option
def sample(
    run: Path | None,
    steps: int | None,
    eta: float | None,
    class_name: str | None,
    guidance: float,
    n: int,
    seed: int,
    weights: Weights,
    out: Path,
    npz: Path | None,
    threads: int,
    device: str,
) -> None:
    """Generate images with a trained RUN (a run directory or a checkpoint file).

    Without RUN it is the one in runs/ that was trained last. Fewer steps than T walk a respaced
    chain: strided times with β recomputed.
    """
    _check_writable(out, npz)
    path = run or run_directory.newest(RUNS)
    found = run_directory.find(path)
    if found.warning:
        click.echo(f"warning: {found.warning}", err=True)
    checkpoint = found.checkpoint
    model = from_checkpoint(checkpoint, weights, resolve_device(device))
    T = model.diffusion.schedule.T
    if steps is not None and not 1 <= steps <= T:
        raise UsageError(f"--steps must be from 1 to {T}: got {steps}")
    labels = _labels(class_name, model.config.class_names, n)
    click.echo(f"{found.path}: step {checkpoint.step}, {weights} weights", err=True)
    with Progress(f"sampling {n}", steps or T) as progress:
        images = model.sample(
            n,
            steps=steps,
            eta=eta,
            labels=labels,
            guidance=guidance,
            seed=seed,
            threads=threads,
            progress=lambda _: progress.advance(),
        )
    save_png(grid(images, zoom=max(1, 56 // images.shape[1])), out)
    click.echo(out)
    if npz:
        write_atomically(npz, lambda file: np.savez(file, images=images))
        click.echo(npz)


def _check_writable(out: Path, npz: Path | None) -> None:
    """Refuse before the work what could not be written after it."""
    if out.suffix.lower() != ".png":
        raise UsageError(f"the picture is a PNG, and {out} is not named like one")
    if out == npz:
        raise UsageError(f"the picture and the images cannot both be {out}")
    for path in (out, npz):
        folder = path.absolute().parent if path else None
        if folder and not folder.is_dir():
            raise UsageError(f"there is no folder {folder} to write in")
        if folder and not os.access(folder, os.W_OK):
            raise StorageError(f"the folder {folder} cannot be written to")


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
