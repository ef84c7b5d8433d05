"""What ``tinyddpm evaluate --fit-classifier`` does."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import click

from tinyddpm import data
from tinyddpm.cli.progress import Progress
from tinyddpm.errors import UsageError
from tinyddpm.evaluation import classifier
from tinyddpm.evaluation.classifier import Classifier
from tinyddpm.evaluation.digits import digits_of
from tinyddpm.evaluation.fit_lenet import Recipe, fit
from tinyddpm.kernels.cpu.memory import keep_pages
from tinyddpm.output_folder import check_folder_of


@dataclass(frozen=True, kw_only=True)
class FitRequest:
    """The options, as given."""

    out: Path | None
    seed: int
    data_dir: Path | None
    json: bool
    threads: int


def fit_classifier(request: FitRequest) -> None:
    """Fit a classifier, write it, and say how good it is."""
    out = _checked(request.out)
    train = data.load("mnist", split="train", data_dir=request.data_dir)
    test = digits_of(data.load("mnist", split="test", data_dir=request.data_dir))
    keep_pages()
    recipe = Recipe(seed=request.seed)
    total = recipe.steps(len(train.images))
    with Progress("fitting", total, images=recipe.batch) as progress:
        network = fit(
            digits_of(train),
            recipe,
            threads=request.threads,
            progress=lambda loss: progress.advance(f"loss {loss:.3f}"),
        )
    right = classifier.accuracy(network, test)
    fitted = Classifier(network, recipe, train.fingerprint, right)
    classifier.save(out, fitted)
    if request.json:
        click.echo(json.dumps({"out": str(out), **fitted.about()}, indent=2))
        return
    click.echo(f"{100 * right:.2f} % of {len(test.images):,} test images are named rightly")
    click.echo(f"weights SHA-256 {fitted.sha256}")
    click.echo(out)


def _checked(out: Path | None) -> Path:
    """Refuse before the work what could not be written after it."""
    if out is None or out.suffix != ".npz":
        raise UsageError("--fit-classifier needs a file to write", remedy="--out lenet.npz")
    check_folder_of(out)
    return out
