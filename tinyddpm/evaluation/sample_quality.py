"""The quality of generated digits, in numbers, each beside the same number of real digits.

    cfd-84, cfd-400   Fréchet distance (see ``frechet``) of n samples to the test images, in the
                      penultimate features and those after the second pooling
    R                 that distance divided by that of real images, which is the mean over 20 draws
                      of n training images, to the same test images. Only R can be compared between
                      classifiers. It is defined for n = 10,000.
    unsure            share of images whose most probable class has p < 0.9
    classes           histogram of the most probable class, against that of the training images
                      (unless the samples were asked for by their classes)
    black             share of pixels that are 0
    neighbours        distance to the nearest training image (see ``neighbours``)

None of them sees everything. The distances see a missing class or a shift at once, but hardly see
a few per cent of unreadable images; these are unsure. Grey haze shows in the share of black, and
copies show in the distance to their neighbours.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from tinyddpm import rng
from tinyddpm.arrays import Array, Floats, IntArray
from tinyddpm.data.dataset import ByteArray
from tinyddpm.errors import UsageError
from tinyddpm.evaluation.classifier import Classifier
from tinyddpm.evaluation.digits import Digits
from tinyddpm.evaluation.estimate import Estimate, estimate
from tinyddpm.evaluation.frechet import Moments, floor_constant, frechet_distance, moments
from tinyddpm.evaluation.homogeneity import Homogeneity, homogeneity
from tinyddpm.evaluation.lenet import CLASSES
from tinyddpm.evaluation.neighbours import Neighbours, nearest
from tinyddpm.ops.softmax import softmax
from tinyddpm.parallel import Workers

REAL_DRAWS = 20
SURE = 0.9
STAGES = 7  # calls of ``progress`` in a measurement

_LAYERS = ("cfd-84", "cfd-400")


@dataclass(frozen=True, eq=False)
class Judged:
    """Images and what the classifier makes of them.

    Attributes:
        images: (N, 28, 28, 1).
        features: (N, D) of each layer, by the name of its distance.
        labels: (N,) the most probable class.
        confidence: (N,) its probability.
    """

    images: ByteArray
    features: dict[str, Array]
    labels: IntArray
    confidence: Floats


@dataclass(frozen=True)
class Distance:
    """A Fréchet distance to the test images, and what real images have in its place.

    Attributes:
        value: of the samples.
        real: of each of ``REAL_DRAWS`` draws of as many training images.
        constant: C of the floor, from the test images.
        floor: C (1/n + 1/m), what chance alone makes of it.
    """

    value: float
    real: tuple[float, ...]
    constant: float
    floor: float

    @property
    def real_mean(self) -> float:
        """The mean of ``real``."""
        return float(np.mean(self.real))

    @property
    def ratio(self) -> float:
        """R."""
        return self.value / self.real_mean


@dataclass(frozen=True, eq=False)
class Looks:
    """What is found of a set of images without comparing it with the test images.

    Attributes:
        count: the number of images.
        unsure: share with p < ``SURE``.
        classes: (10,) how many of each class.
        homogeneity: of these with the classes of the training images; None if classes were given.
        black: share of pixels that are 0, over images.
        neighbours: in the training images.
    """

    count: int
    unsure: Estimate
    classes: IntArray
    homogeneity: Homogeneity | None
    black: Estimate
    neighbours: Neighbours


@dataclass(frozen=True, eq=False)
class Quality:
    """All that was measured, and the samples as the classifier sees them."""

    judged: Judged
    samples: Looks
    real: Looks  # of the test images
    distances: dict[str, Distance]


def measure(
    images: ByteArray,
    train: Digits,
    test: Digits,
    classifier: Classifier,
    workers: Workers,
    *,
    classes_given: bool = False,
    progress: Callable[[str], None] = lambda _: None,
) -> Quality:
    """Measure ``images`` (N, 28, 28, 1) by the real images ``train`` and ``test``.

    Args:
        images: samples, bytes.
        train: the real images from which a model learns.
        test: others, with which samples are compared.
        classifier: what looks at them.
        workers: threads, on which nothing depends.
        classes_given: the samples were asked for by their classes.
        progress: told of each of the ``STAGES``.

    Raises:
        UsageError: fewer than 2 samples, or more than there are training images.
        DataError: images of another shape.
    """
    check_count(len(images), train)
    judged = []
    kinds = {"samples": images, "training images": train.images, "test images": test.images}
    for name, kind in kinds.items():
        judged.append(judge(kind, classifier, workers))
        progress(f"classified the {name}")
    ours, known, unseen = judged
    distances = {}
    for layer in _LAYERS:
        distances[layer] = _distance(
            ours.features[layer], known.features[layer], unseen.features[layer], workers
        )
        progress(f"took {layer} and {REAL_DRAWS} of real images")
    samples = _looks(ours, known, workers)
    if classes_given:
        samples = replace(samples, homogeneity=None)
    progress("found the neighbours of the samples")
    real = _looks(unseen, known, workers)
    progress("found the neighbours of the test images")
    return Quality(ours, samples, real, distances)


def check_count(count: int, train: Digits) -> None:
    """Raise unless ``count`` samples can be measured.

    Raises:
        UsageError: there are fewer than 2, or more than training images.
    """
    if not 2 <= count <= len(train.images):
        raise UsageError(
            "samples are compared with as many training images: "
            f"from 2 to {len(train.images):,} of them",
            cause=f"there are {count:,}",
        )


def judge(images: ByteArray, classifier: Classifier, workers: Workers) -> Judged:
    """Return what ``classifier`` makes of ``images`` (N, 28, 28, 1)."""
    seen = classifier.look_at(images, workers)
    p, _ = softmax(seen.logits.astype(np.float64))
    features = dict(zip(_LAYERS, (seen.hidden, seen.pooled), strict=True))
    return Judged(images, features, p.argmax(axis=1), p.max(axis=1))


def _distance(samples: Array, train: Array, test: Array, workers: Workers) -> Distance:
    reference = moments(test)
    real: list[float] = []

    def compute(_: int, draw: int) -> float:
        return frechet_distance(reference, _real_moments(train, len(samples), draw))

    workers.run(REAL_DRAWS, compute, lambda _, distance: real.append(distance))
    constant = floor_constant(reference)
    return Distance(
        value=frechet_distance(reference, moments(samples)),
        real=tuple(real),
        constant=constant,
        floor=constant * (1 / len(samples) + 1 / len(test)),
    )


def _real_moments(train: Array, count: int, draw: int) -> Moments:
    """Those of ``count`` training images, another choice for each ``draw``, the same for all."""
    chosen = rng.permutation(0, "subsets", epoch=draw, n=len(train))[:count]
    return moments(train[chosen])


def _looks(judged: Judged, train: Judged, workers: Workers) -> Looks:
    classes = np.bincount(judged.labels, minlength=CLASSES)
    return Looks(
        count=len(judged.images),
        unsure=estimate((judged.confidence < SURE).astype(np.float64)),
        classes=classes,
        homogeneity=homogeneity(classes, np.bincount(train.labels, minlength=CLASSES)),
        black=estimate((judged.images == 0).mean(axis=(1, 2, 3))),
        neighbours=nearest(judged.images, train.images, workers),
    )
