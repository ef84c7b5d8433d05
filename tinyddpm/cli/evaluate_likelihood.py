"""What ``tinyddpm evaluate --nll`` does: bits/dim of one run, or of two on the same noise."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np

from tinyddpm import rng
from tinyddpm.arrays import IntArray, resolve_device
from tinyddpm.cli import likelihood_report
from tinyddpm.cli.likelihood_report import Measured
from tinyddpm.cli.progress import Progress
from tinyddpm.cli.run_data import checkpoint_of, data_of
from tinyddpm.data import Dataset
from tinyddpm.errors import UsageError
from tinyddpm.evaluation.decoder_limit import check_limit, decoder_limit
from tinyddpm.evaluation.ledger import Comparison, compare
from tinyddpm.evaluation.likelihood import DRAWS, estimate_likelihood, model_calls
from tinyddpm.figures.style import check_can_draw, draw_and_save
from tinyddpm.figures.terms_plot import Terms, terms_figure
from tinyddpm.training.config import RunConfig
from tinyddpm.training.model import Weights, from_checkpoint
from tinyddpm.training.run_directory import FoundCheckpoint

SHARDS_A_THREAD = 4  # in one call of the model


@dataclass(frozen=True, kw_only=True)
class LikelihoodRequest:
    """The options, as given."""

    run: Path | None
    against: Path | None
    images: int | None
    draws: int | None
    exact: bool
    seed: int
    weights: Weights
    data_dir: Path | None
    json: bool
    plot: Path | None
    threads: int
    device: str


def evaluate_likelihood(request: LikelihoodRequest) -> None:
    """Measure, and say what was found."""
    if request.exact and request.draws:
        raise UsageError("--exact takes all times, --draws some of them", remedy="one of the two")
    if request.plot:
        check_can_draw(request.plot)
    runs = [request.run, request.against] if request.against else [request.run]
    found = [checkpoint_of(run) for run in runs]
    dataset = _test_set(request, found)
    chosen = _choose(len(dataset.images), request)
    measured = [_measure(request, checkpoint, dataset, chosen) for checkpoint in found]
    if request.json:
        click.echo(json.dumps(_as_json(request, dataset, chosen, measured), indent=2))
    else:
        click.echo("\n".join(_as_text(request, dataset, chosen, measured)))
    if request.plot:
        _plot(request.plot, measured)
        click.echo(request.plot, err=request.json)


def _test_set(request: LikelihoodRequest, found: list[FoundCheckpoint]) -> Dataset:
    """The test set of the runs, which must have learnt from the same data."""
    if len({one.checkpoint.data_fingerprint for one in found}) > 1:
        raise UsageError(
            "only runs on the same data can be compared",
            cause=", ".join(f"{one.path}: {one.checkpoint.config.get('data')}" for one in found),
        )
    config = RunConfig.from_json(found[0].checkpoint.config)
    return data_of(config, "test", request.data_dir)


def _choose(count: int, request: LikelihoodRequest) -> IntArray:
    """The numbers of the images to take: all, or as many as were asked for, anywhere in the set."""
    wanted = min(request.images or count, count)
    return np.sort(rng.permutation(request.seed, "order", epoch=0, n=count)[:wanted])


def _measure(
    request: LikelihoodRequest, found: FoundCheckpoint, dataset: Dataset, chosen: IntArray
) -> Measured:
    """The likelihood under one checkpoint, checked against the decoder's floor."""
    device = resolve_device(request.device)
    trained = from_checkpoint(found.checkpoint, request.weights, device)
    images, T = dataset.images[chosen], trained.diffusion.schedule.T
    draws = T if request.exact else request.draws or DRAWS
    with trained.denoiser(request.threads) as model:
        batch = SHARDS_A_THREAD * model.shard * model.workers.threads
        total = model_calls(T, len(images), draws, batch)
        label = f"evaluating {found.path.name}"
        with Progress(label, total, images=min(batch, len(images))) as progress:
            likelihood = estimate_likelihood(
                trained.diffusion,
                model,
                images,
                samples=chosen,
                draws=draws,
                seed=request.seed,
                batch=batch,
                device=device,
                progress=progress.advance,
            )
    limit = decoder_limit(trained.diffusion, images)
    check_limit(float(likelihood.clipped.terms(1, 1).mean()), limit)
    path, step = str(found.path), found.checkpoint.step
    return Measured(path, step, request.weights, trained.config.diffusion, likelihood, limit)


def _compared(measured: list[Measured]) -> tuple[Comparison, Comparison]:
    """Their differences, with clipping and without."""
    one, other = (checkpoint.likelihood for checkpoint in measured)
    return compare(one.clipped, other.clipped), compare(one.unclipped, other.unclipped)


def _as_text(
    request: LikelihoodRequest, dataset: Dataset, chosen: IntArray, measured: list[Measured]
) -> list[str]:
    lines = [
        f"{dataset.name}, test set: {len(chosen):,} of {len(dataset.images):,} images of "
        f"{dataset.images[0].size} dimensions, seed {request.seed}",
        "",
    ]
    for checkpoint in measured:
        lines += [*likelihood_report.table(checkpoint), ""]
    if len(measured) > 1:
        one, other = (checkpoint.likelihood.clipped.T for checkpoint in measured)
        compared = _compared(measured)
        lines += [*likelihood_report.comparison_lines(*compared, same_times=one == other), ""]
    return lines[:-1]


def _as_json(
    request: LikelihoodRequest, dataset: Dataset, chosen: IntArray, measured: list[Measured]
) -> dict[str, Any]:
    result: dict[str, Any] = {
        "data": dataset.name,
        "split": "test",
        "images": len(chosen),
        "dims": int(dataset.images[0].size),
        "seed": request.seed,
        "dtype": "float32",
        **likelihood_report.as_json(measured[0]),
    }
    if len(measured) > 1:
        clipped, unclipped = map(likelihood_report.comparison_as_json, _compared(measured))
        result["against"] = likelihood_report.as_json(measured[1])
        result["difference"] = {"clipped": clipped, "unclipped": unclipped}
    return result


def _plot(path: Path, measured: list[Measured]) -> None:
    terms = []
    for number, checkpoint in enumerate(measured):
        clipped, unclipped = checkpoint.likelihood
        for kind, draws in (("unclipped", unclipped), ("clipped", clipped)):  # the latter on top
            means = draws.at_each_time()
            label = f"{kind}, {('RUN', '--against')[number]}" if len(measured) > 1 else kind
            terms.append(Terms(label, means.t, means.mean, means.standard_error))
    draw_and_save(lambda: terms_figure(terms, title="The bound, term by term"), path)
