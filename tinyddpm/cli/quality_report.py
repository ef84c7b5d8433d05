"""What ``tinyddpm evaluate --samples`` says: as a table for people, as an object for programs."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

from tinyddpm.cli.columns import labelled
from tinyddpm.evaluation.classifier import Classifier
from tinyddpm.evaluation.estimate import Estimate
from tinyddpm.evaluation.lenet import CLASSES
from tinyddpm.evaluation.sample_quality import REAL_DRAWS, SURE, Distance, Looks, Quality

DEFINED_AT = 10_000  # samples, for R

_line = partial(labelled, label_width=20, width=18)


def table(quality: Quality, classifier: Classifier) -> Iterator[str]:
    """Yield the lines about the samples, beside the same of real digits."""
    samples, real = quality.samples, quality.real
    yield (
        f"{samples.count:,} samples, judged by a LeNet-5 that names "
        f"{100 * classifier.test_accuracy:.2f} % of the test images rightly "
        f"(SHA-256 {classifier.sha256[:16]})"
    )
    yield ""
    yield _line("", "samples", "real")
    for name, distance in quality.distances.items():
        yield from _distance_lines(name, distance)
    yield _line(f"unsure, p < {SURE}", _share(samples.unsure), _share(real.unsure))
    yield _line("black pixels", _share(samples.black), _share(real.black))
    yield "distance to the nearest training image"
    near, real_near = _neighbour_distances(samples), _neighbour_distances(real)
    for name in near:
        yield _line(f"  {name}", f"{near[name]:.3f}", f"{real_near[name]:.3f}")
    yield "share of each class"
    for digit in range(CLASSES):
        shares = (100 * looks.classes[digit] / looks.count for looks in (samples, real))
        yield _line(f"  {digit}", *(f"{share:.1f} %" for share in shares))
    yield _line(f"  chi2, {CLASSES - 1} degrees", _homogeneity(samples), _homogeneity(real))
    yield ""
    widest = max(features.shape[1] for features in quality.judged.features.values())
    yield from _notes(samples, real, widest)


def as_json(quality: Quality, classifier: Classifier) -> dict[str, Any]:
    """Return all that was found, in plain dictionaries, lists and numbers."""
    return {
        "classifier": classifier.about(),
        "distances": {name: _distance_as_json(d) for name, d in quality.distances.items()},
        "samples": _looks_as_json(quality.samples),
        "real": _looks_as_json(quality.real),
    }


def _distance_lines(name: str, distance: Distance) -> Iterator[str]:
    real = f"{distance.real_mean:.3f} ± {np.std(distance.real, ddof=1):.3f}"
    yield f"{_line(name, f'{distance.value:.3f}', real)}    R = {distance.ratio:.2f}"
    chance = _line("  by chance alone", "", f"{distance.floor:.3f}")
    yield f"{chance}    C = {distance.constant:.0f}"


def _notes(samples: Looks, real: Looks, widest: int) -> Iterator[str]:
    yield (
        f"real: {real.count:,} test images; for cfd, the mean and the spread of {REAL_DRAWS} draws "
        f"of {samples.count:,} training images"
    )
    yield "cfd: Fréchet distance to the test images; R: the samples' over the real mean"
    if samples.homogeneity is None:
        yield "chi2: not of these samples, which were asked for by their classes"
    if samples.count < DEFINED_AT:
        yield f"R is defined at {DEFINED_AT:,} samples; with fewer it is closer to 1"
    if samples.count < widest:
        yield f"fewer samples than the {widest} features: the distances and R are mostly chance"


def _distance_as_json(distance: Distance) -> dict[str, Any]:
    return {
        "value": distance.value,
        "ratio": distance.ratio,
        "real_mean": distance.real_mean,
        "real": list(distance.real),
        "floor": distance.floor,
        "floor_constant": distance.constant,
    }


def _looks_as_json(looks: Looks) -> dict[str, Any]:
    return {
        "images": looks.count,
        "unsure": looks.unsure._asdict(),
        "black": looks.black._asdict(),
        "nearest_training_image": _neighbour_distances(looks),
        "classes": looks.classes.tolist(),
        "homogeneity": looks.homogeneity._asdict() if looks.homogeneity else None,
    }


def _neighbour_distances(looks: Looks) -> dict[str, float]:
    distance = looks.neighbours.distance
    return {
        "mean": float(distance.mean()),
        "median": float(np.median(distance)),
        "first percentile": float(np.percentile(distance, 1)),
        "least": float(distance.min()),
    }


def _homogeneity(looks: Looks) -> str:
    found = looks.homogeneity
    return f"{found.chi2:.1f} (p = {found.p:.2g})" if found else "–"


def _share(share: Estimate) -> str:
    return f"{100 * share.mean:.2f} ± {100 * share.standard_error:.2f} %"
