"""What ``tinyddpm evaluate --samples`` and ``--from`` do: the quality of generated digits."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import click

from tinyddpm.arrays import resolve_device
from tinyddpm.cli import quality_report
from tinyddpm.cli.messages import say
from tinyddpm.cli.options import check_steps
from tinyddpm.cli.progress import Progress, duration
from tinyddpm.cli.quality_sheet import quality_sheet
from tinyddpm.cli.run_data import checkpoint_of, data_of, load_data
from tinyddpm.data import Split
from tinyddpm.data.dataset import ByteArray
from tinyddpm.errors import DataError, UsageError
from tinyddpm.evaluation import classifier as classifiers
from tinyddpm.evaluation.chunks import CHUNK
from tinyddpm.evaluation.classifier import Classifier
from tinyddpm.evaluation.digits import Digits, check_shape, digits_of
from tinyddpm.evaluation.sample_quality import STAGES, check_count, measure
from tinyddpm.figures.grid import save_png
from tinyddpm.kernels.cpu.memory import keep_pages
from tinyddpm.output_folder import check_folder_of
from tinyddpm.parallel import Workers
from tinyddpm.training.config import RunConfig
from tinyddpm.training.kept_samples import KeptSamples, Sampling
from tinyddpm.training.model import Weights, from_checkpoint

DATA = "mnist"
LONG = 1000  # steps of chunks, from which on it is said beforehand how long they will take


@dataclass(frozen=True, kw_only=True)
class JudgedRequest:
    """The options that both have, as given."""

    data_dir: Path | None
    classifier: Path | None
    sheet: Path | None
    json: bool
    threads: int


@dataclass(frozen=True, kw_only=True)
class GeneratedRequest(JudgedRequest):
    """Those of ``--samples``."""

    run: Path | None
    samples: int
    steps: int | None
    eta: float | None
    seed: int
    weights: Weights
    device: str


@dataclass(frozen=True, kw_only=True)
class FilesRequest(JudgedRequest):
    """Those of ``--from``."""

    source: Path


class Yardstick(NamedTuple):
    """What samples are held against."""

    classifier: Classifier
    train: Digits
    test: Digits


def evaluate_generated(request: GeneratedRequest) -> None:
    """Generate digits, measure them, and say what was found."""
    check_sheet(request.sheet)
    found = checkpoint_of(request.run)
    config = RunConfig.from_json(found.checkpoint.config)
    _check_learnt(config)
    trained = from_checkpoint(found.checkpoint, request.weights, resolve_device(request.device))
    check_shape((request.samples, *trained.image_shape))
    steps = check_steps(request.steps, trained.diffusion.schedule.T)
    yardstick = _yardstick(request, config)
    check_count(request.samples, yardstick.train)
    sampling = Sampling(steps=steps, eta=request.eta, seed=request.seed)
    labels = yardstick.train.labels
    kept = KeptSamples(trained, found.path, sampling, labels, request.threads)
    images = _collected(kept, request.samples)
    say(f"the samples are in {kept.path}")
    classes_given = config.network.classes > 0
    name = f"{found.path}: step {trained.step}, {request.weights} weights, {sampling.name}"
    origin = {
        "checkpoint": str(found.path),
        "step": trained.step,
        "weights": request.weights,
        "sampling": asdict(sampling),
        "classes_given": classes_given,
        "folder": str(kept.path),
    }
    _report(request, yardstick, images, name, origin, classes_given=classes_given)


def _collected(kept: KeptSamples, count: int) -> ByteArray:
    """``count`` images (count, H, W, C); beforehand it is said how long a long wait will be."""
    calls = kept.calls(count)
    if calls >= LONG:
        to_come = duration(calls * kept.seconds_a_call())
        say(
            f"{calls:,} steps of {CHUNK} images, about {to_come}; a stop costs no more than the "
            f"last {CHUNK}, the others are kept in {kept.path}"
        )
    with Progress(f"sampling {count:,}", calls) as progress:
        return kept.collect(count, progress.advance)


def evaluate_files(request: FilesRequest) -> None:
    """Measure digits that there are, and say what was found."""
    check_sheet(request.sheet)
    if not request.source.exists():
        raise DataError(
            f"there is no file or folder {request.source}",
            remedy="tinyddpm sample --npz FILE writes one",
        )
    source = load_data(str(request.source.absolute()))
    check_shape(source.images.shape)
    yardstick = _yardstick(request)
    check_count(len(source.images), yardstick.train)
    _report(request, yardstick, source.images, str(request.source), {"source": str(request.source)})


def check_sheet(sheet: Path | None) -> None:
    """Refuse before the work a picture that could not be written after it."""
    if sheet is None:
        return
    if sheet.suffix.lower() != ".png":
        raise UsageError(f"the sheet is a PNG, and {sheet} is not named like one")
    check_folder_of(sheet)


def _check_learnt(config: RunConfig) -> None:
    """Refuse a run that learnt other things than the classifier."""
    if config.data != DATA:
        raise UsageError(
            f"the quality of samples is measured by a classifier of {DATA}: 28×28 grey pixels",
            cause=f"this run learnt {config.data}",
            remedy="a run of train --data mnist; --nll measures any run",
        )


def _yardstick(request: JudgedRequest, config: RunConfig | None = None) -> Yardstick:
    """The classifier and the real digits, from where the run of ``config`` had them if it can be.

    A folder given by the user comes first.
    """
    path = request.classifier
    classifier = classifiers.read(path) if path else classifiers.shipped()
    splits: tuple[Split, Split] = ("train", "test")
    if config and not request.data_dir:
        train, test = (data_of(config, split) for split in splits)
    else:
        train, test = (load_data(DATA, split, request.data_dir) for split in splits)
    if classifier.data_fingerprint != train.fingerprint:
        say("warning: the classifier learnt from other images than these training images")
    return Yardstick(classifier, digits_of(train), digits_of(test))


def _report(
    request: JudgedRequest,
    yardstick: Yardstick,
    images: ByteArray,
    name: str,
    origin: dict[str, Any],
    *,
    classes_given: bool = False,
) -> None:
    """Measure ``images``, called ``name``, and say what was found."""
    classifier, train, test = yardstick
    keep_pages()
    with (
        Workers(request.threads) as workers,
        Progress("measuring", STAGES) as progress,
    ):
        quality = measure(
            images,
            train,
            test,
            classifier,
            workers,
            classes_given=classes_given,
            progress=progress.advance,
        )
    if request.json:
        result = {**origin, **quality_report.as_json(quality, classifier)}
        click.echo(json.dumps(result, indent=2))
    else:
        click.echo("\n".join([name, *quality_report.table(quality, classifier)]))
    if request.sheet:
        save_png(quality_sheet(quality, train.images), request.sheet)
        click.echo(request.sheet, err=request.json)
