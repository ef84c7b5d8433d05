"""``tinyddpm evaluate``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from tinyddpm.cli.completion import complete_run
from tinyddpm.cli.evaluate_fit import FitRequest, fit_classifier
from tinyddpm.cli.evaluate_likelihood import LikelihoodRequest, evaluate_likelihood
from tinyddpm.cli.evaluate_samples import (
    FilesRequest,
    GeneratedRequest,
    evaluate_files,
    evaluate_generated,
)
from tinyddpm.cli.options import (
    AnyPath,
    RunPath,
    device_option,
    finite,
    option_names,
    parameters_of,
    refuse_others,
    request_of,
    seed_type,
    threads_option,
    weights_option,
)
from tinyddpm.errors import UsageError
from tinyddpm.evaluation.likelihood import DRAWS

EXAMPLES = """\b
Examples:
  tinyddpm evaluate --nll
  tinyddpm evaluate runs/mnist-1 --nll --images 1000 --plot terms.svg
  tinyddpm evaluate runs/mnist-2 --nll --against runs/mnist-1 --json
  tinyddpm evaluate --samples 2000 --steps 50 --sheet sheet.png
  tinyddpm evaluate --from samples.npz
  tinyddpm evaluate --fit-classifier --seed 1 --out lenet-1.npz
"""

# By the option that asks for it: the kind of its request, and what is then done.
MEASUREMENTS: dict[str, tuple[type, Callable[[Any], None]]] = {
    "nll": (LikelihoodRequest, evaluate_likelihood),
    "samples": (GeneratedRequest, evaluate_generated),
    "source": (FilesRequest, evaluate_files),
    "fit": (FitRequest, fit_classifier),
}


@click.command(epilog=EXAMPLES, short_help="Measure a trained network.")
@click.argument("run", type=RunPath(), required=False, shell_complete=complete_run)
@click.option("--nll", is_flag=True, help="Measure the likelihood, by its bound, in bits/dim.")
@click.option(
    "--samples",
    type=click.IntRange(min=2),
    metavar="N",
    help="Generate N images and measure their quality.",
)
@click.option(
    "--from",
    "source",
    type=AnyPath(),
    metavar="PATH",
    help="Measure the quality of the images in a .npz file, as sample writes it, or in a folder.",
)
@click.option(
    "--fit-classifier",
    "fit",
    is_flag=True,
    help="Train another classifier to judge samples by, and write it to --out; this takes two "
    "minutes on 2 cores.",
)
@click.option(
    "--against",
    type=RunPath(),
    metavar="RUN",
    shell_complete=complete_run,
    help="--nll: measure this run too, on the same images (and, if its chain is as long, with the "
    "same times and noise), and print the difference.",
)
@click.option(
    "--images",
    type=click.IntRange(min=2),
    metavar="N",
    help="--nll: number of test images, chosen by the seed.  [default: all]",
)
@click.option(
    "--draws",
    type=click.IntRange(min=1),
    metavar="K",
    help="--nll: times t drawn for each image, besides t = 1 and t = T, which all images get.  "
    f"[default: {DRAWS}]",
)
@click.option(
    "--exact",
    is_flag=True,
    help="--nll: all T times for each image, with one noise each; takes some 60 times as long as "
    "16 draws.",
)
@click.option(
    "--plot",
    type=AnyPath(dir_okay=False),
    metavar="FILE",
    help="--nll: also draw a figure of the terms, .png or .svg.",
)
@click.option(
    "--steps",
    type=int,
    metavar="N",
    help="--samples: steps of the reverse chain, from 1 to the T it was trained with. 10,000 "
    "images in 1000 steps take hours on 2 cores; 50 steps are usual.  [default: T]",
)
@click.option(
    "--ddim",
    "eta",
    type=click.FloatRange(0.0, 1.0),
    callback=finite,
    metavar="ETA",
    help="--samples: use DDIM with this η (0: no noise is added) instead of ancestral sampling.",
)
@click.option(
    "--classifier",
    type=AnyPath(),
    metavar="FILE",
    help="--samples, --from: use this classifier instead of the one that comes with the package.",
)
@click.option(
    "--sheet",
    type=AnyPath(dir_okay=False),
    metavar="FILE",
    help="--samples, --from: also draw a PNG of samples: the first, the most and the least "
    "certain, and some above the training images nearest to them.",
)
@click.option(
    "--out",
    type=AnyPath(dir_okay=False),
    metavar="FILE",
    help="--fit-classifier: where to write the classifier, a .npz.",
)
@click.option(
    "--seed",
    type=seed_type,
    metavar="N",
    default=0,
    help="Seed of every random number.",
)
@weights_option
@click.option(
    "--data-dir",
    type=AnyPath(),
    help="Folder with the data set's files.  [default: as in training]",
)
@click.option("--json", is_flag=True, help="Print one JSON object instead of the table.")
@threads_option
@device_option
def evaluate(**given: Any) -> None:
    """Measure a RUN (--nll, --samples) or images (--from), or train a classifier
    (--fit-classifier).

    RUN is a run directory or a checkpoint file; without it, the one in runs/ that was trained last
    is taken.

    --nll prints the bound on the likelihood of the test set as a ledger: L_0, the sums of
    L_1 .. L_(T-1) over ranges of t, and L_T, each with its standard error over images, with x0_hat
    clipped to [-1, 1] and not. A network with classes is asked for none.

    --samples N generates images and measures them, for MNIST only: Fréchet distances to the test
    images in the features of a LeNet-5, as they are and divided by that of as many real images (R),
    the share of images that the LeNet-5 is not sure of, the classes, the black pixels, and the
    distance to the nearest training image. The images are kept with the run, and a command that is
    stopped or repeated goes on with them. A network with classes is asked for those of the training
    images, in their order.
    """
    context = click.get_current_context()
    name = _chosen(context, given)
    kind, perform = MEASUREMENTS[name]
    refuse_others(context, option_names(context)[name], {name, *parameters_of(kind)})
    perform(request_of(kind, given))


def _chosen(context: click.Context, given: dict[str, Any]) -> str:
    """The one thing to be measured."""
    options = option_names(context)
    asked = [name for name in MEASUREMENTS if given[name] not in {None, False}]
    if len(asked) != 1:
        named = ", ".join(options[name] for name in asked)
        raise UsageError(
            "evaluate needs to be told what to measure, one thing at a time",
            cause=f"asked for: {named}" if asked else "none was named",
            remedy=", ".join(options[name] for name in MEASUREMENTS),
        )
    return asked[0]
