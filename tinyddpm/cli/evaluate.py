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
@click.option("--nll", is_flag=True, help="The likelihood, by its bound, in bits/dim.")
@click.option(
    "--samples",
    type=click.IntRange(min=2),
    metavar="N",
    help="The quality of N images that the run generates for this.",
)
@click.option(
    "--from",
    "source",
    type=AnyPath(),
    metavar="PATH",
    help="The quality of the images in a .npz file, as sample writes it, or in a folder.",
)
@click.option(
    "--fit-classifier",
    "fit",
    is_flag=True,
    help="Teach another classifier the digits, to judge samples by, and write it to --out: two "
    "minutes on 2 cores.",
)
@click.option(
    "--against",
    type=RunPath(),
    metavar="RUN",
    shell_complete=complete_run,
    help="--nll: another run, measured on the same images (and, if its chain is as long, the same "
    "times and noise); then the difference.",
)
@click.option(
    "--images",
    type=click.IntRange(min=2),
    metavar="N",
    help="--nll: images of the test set, chosen by the seed.  [default: all]",
)
@click.option(
    "--draws",
    type=click.IntRange(min=1),
    metavar="K",
    help="--nll: times t for each image, besides t = 1 and t = T, which all images get.  "
    f"[default: {DRAWS}]",
)
@click.option(
    "--exact",
    is_flag=True,
    help="--nll: all T times for each image, one noise each: some 60 times as long as 16 draws.",
)
@click.option(
    "--plot",
    type=AnyPath(dir_okay=False),
    metavar="FILE",
    help="--nll: also a figure of the terms, .png or .svg.",
)
@click.option(
    "--steps",
    type=int,
    metavar="N",
    help="--samples: steps of the reverse chain, from 1 to the T it was trained with. 10,000 "
    "images in all of 1000 steps take hours on 2 cores; 50 steps are the everyday way.  "
    "[default: T]",
)
@click.option(
    "--ddim",
    "eta",
    type=click.FloatRange(0.0, 1.0),
    callback=finite,
    metavar="ETA",
    help="--samples: DDIM with this η (0: no noise on the way) instead of ancestral sampling.",
)
@click.option(
    "--classifier",
    type=AnyPath(),
    metavar="FILE",
    help="--samples, --from: another classifier than the one that comes with the package.",
)
@click.option(
    "--sheet",
    type=AnyPath(dir_okay=False),
    metavar="FILE",
    help="--samples, --from: also a PNG of samples: the first, the most and the least certain, "
    "and the nearest training images below theirs.",
)
@click.option(
    "--out",
    type=AnyPath(dir_okay=False),
    metavar="FILE",
    help="--fit-classifier: where the classifier is written, a .npz.",
)
@click.option(
    "--seed",
    type=seed_type,
    metavar="N",
    default=0,
    help="Seed of everything that is left to chance.",
)
@weights_option
@click.option(
    "--data-dir",
    type=AnyPath(),
    help="Folder with the data set's files.  [default: as in training]",
)
@click.option("--json", is_flag=True, help="One JSON object in place of the table.")
@threads_option
@device_option
def evaluate(**given: Any) -> None:
    """Measure a RUN (--nll, --samples) or images (--from); or --fit-classifier.

    RUN is a run directory or a checkpoint file; without it, it is the one in runs/ that was trained
    last.

    --nll is the bound on the likelihood of the test set: a ledger of L_0, the sums of
    L_1 .. L_(T-1) over ranges, and L_T, each with its standard error over images, with x0_hat held
    in [-1, 1] and not. A network with classes is asked for none.

    --samples N generates images and measures them, MNIST only: Fréchet distances to the test images
    in the features of a LeNet-5, as they are and over that of as many real images (R), the share of
    images that it is not sure of, classes, black pixels, and the distance to the nearest training
    image. The images are kept with the run: stopped or repeated, it goes on with what there is. A
    network with classes is asked for those of the training images, in their order.
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
