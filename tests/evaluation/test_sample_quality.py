"""What is measured of samples: that it is what it says, and what it sees on real digits."""

import numpy as np
import pytest
from fake_mnist import bars

from tinyddpm import rng
from tinyddpm.data import load
from tinyddpm.data.dataset import Dataset
from tinyddpm.errors import DataError, UsageError
from tinyddpm.evaluation.classifier import Classifier, shipped
from tinyddpm.evaluation.digits import Digits, digits_of
from tinyddpm.evaluation.fit_lenet import Recipe, fit
from tinyddpm.evaluation.frechet import floor_constant, frechet_distance, moments
from tinyddpm.evaluation.sample_quality import REAL_DRAWS, STAGES, judge, measure
from tinyddpm.parallel import Workers

TRAIN, TEST, SAMPLES = bars(400, seed=0), bars(90, seed=1), bars(120, seed=2).images


@pytest.fixture(scope="module")
def classifier():
    """One that knows bars."""
    recipe = Recipe(epochs=6, batch=50, shift=0)
    return Classifier(fit(TRAIN, recipe, threads=1), recipe, "bars", 1.0)


def measured(classifier, images=SAMPLES, train=TRAIN, test=TEST, threads=1, **options):
    with Workers(threads) as workers:
        return measure(images, train, test, classifier, workers, **options)


def test_the_distances_are_those_of_the_definition(classifier):
    quality = measured(classifier)
    looks = [
        classifier.network.forward(images.astype(np.float32) / 255)[0]
        for images in (SAMPLES, TRAIN.images, TEST.images)
    ]
    for name, layer in (("cfd-84", "hidden"), ("cfd-400", "pooled")):
        samples, train, test = (getattr(look, layer) for look in looks)
        assert samples.shape[1] == int(name.removeprefix("cfd-"))
        found = quality.distances[name]
        expected = frechet_distance(moments(samples), moments(test))
        assert found.value == pytest.approx(expected, rel=1e-3)
        assert len(found.real) == REAL_DRAWS
        assert len(set(found.real)) == REAL_DRAWS  # each of other images
        chosen = rng.permutation(0, "subsets", epoch=7, n=400)[:120]
        expected = frechet_distance(moments(train[chosen]), moments(test))
        assert found.real[7] == pytest.approx(expected, rel=1e-3)
        assert found.ratio == pytest.approx(found.value / np.mean(found.real))
        assert found.constant == pytest.approx(floor_constant(moments(test)), rel=1e-3)
        assert found.floor == pytest.approx(found.constant * (1 / 120 + 1 / 90))
        whole = frechet_distance(moments(train), moments(test))
        all_of_them = measured(classifier, images=TRAIN.images).distances[name]
        assert all_of_them.value == pytest.approx(whole, rel=1e-3)
        np.testing.assert_allclose(all_of_them.real, whole, rtol=1e-3)  # there is but one choice


def test_the_companions_are_counts(classifier):
    images = SAMPLES.copy()
    images[:3] = 0  # of no class
    images[3:5, 0] = 1  # nearly black
    looks = measured(classifier, images=images).samples
    assert looks.count == 120
    assert looks.classes.sum() == 120
    confidence = judge_one_by_one(classifier, images)
    assert looks.unsure.mean == pytest.approx((confidence < 0.9).mean())
    assert looks.black.mean == pytest.approx((images == 0).mean())
    assert looks.homogeneity.degrees == 9
    np.testing.assert_array_equal(
        looks.neighbours.distance[:3],
        np.sqrt(np.square(TRAIN.images / 255).sum(axis=(1, 2, 3)).min()),
    )


def test_a_class_that_no_training_image_has_is_a_class(classifier):
    few = TRAIN.labels < 5
    looks = measured(classifier, train=Digits(TRAIN.images[few], TRAIN.labels[few])).samples
    assert looks.classes.shape == (10,)
    assert looks.homogeneity.p < 1e-6


def judge_one_by_one(classifier, images):
    logits = classifier.network.forward(images.astype(np.float32) / 255)[0].logits.astype(float)
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    return (p / p.sum(axis=1, keepdims=True)).max(axis=1)


def test_real_digits_are_beside_them(classifier):
    quality = measured(classifier)
    assert quality.real.count == 90
    np.testing.assert_array_equal(quality.real.classes, np.bincount(TEST.labels, minlength=10))
    difference = TEST.images[:5, None] / 255 - TRAIN.images / 255
    nearest = np.sqrt(np.square(difference).sum(axis=(2, 3, 4))).min(axis=1)
    np.testing.assert_allclose(quality.real.neighbours.distance[:5], nearest)
    copies = measured(classifier, images=TRAIN.images[:50], classes_given=True)
    assert copies.samples.homogeneity is None
    assert copies.real.homogeneity == quality.real.homogeneity
    assert copies.samples.neighbours.distance.max() == 0
    found = TRAIN.images[copies.samples.neighbours.nearest]
    np.testing.assert_array_equal(found, TRAIN.images[:50])


def test_threads_change_nothing_and_stages_are_told(classifier):
    told = []
    one = measured(classifier, progress=told.append)
    assert len(told) == STAGES
    two = measured(classifier, threads=2)
    assert one.distances == two.distances
    np.testing.assert_array_equal(one.judged.confidence, two.judged.confidence)
    np.testing.assert_array_equal(one.samples.neighbours.distance, two.samples.neighbours.distance)


@pytest.mark.parametrize("images", [SAMPLES[:1], TRAIN.images.repeat(2, axis=0)])
def test_too_few_and_too_many_are_refused(classifier, images):
    with pytest.raises(UsageError, match="from 2 to 400"):
        measured(classifier, images=images)
    assert measured(classifier, images=SAMPLES[:2]).samples.count == 2


def test_what_is_no_digit_is_refused(classifier):
    with pytest.raises(DataError, match="28×28 grey"):
        measured(classifier, images=SAMPLES[:, :16, :16])


def test_digits_have_labels_from_0_to_9():
    images = np.zeros((2, 28, 28, 1), np.uint8)
    assert digits_of(Dataset("ours", images, np.array([0, 9], np.uint8))).labels.tolist() == [0, 9]
    for labels in (None, np.array([0, 10], np.uint8)):
        with pytest.raises(DataError, match="data set ours has no labels from 0 to 9"):
            digits_of(Dataset("ours", images, labels))


@pytest.fixture(scope="module")
def real(real_data):
    """10,000 training images, and every other test image."""
    train, test = (
        digits_of(load("mnist", split=split, data_dir=real_data / "mnist"))
        for split in ("train", "test")
    )
    return Digits(train.images[:10_000], train.labels[:10_000]), Digits(
        test.images[::2], test.labels[::2]
    )


def noisy(images, labels, level):
    del labels
    noise = level * np.random.default_rng(0).standard_normal(images.shape)
    return np.clip(np.rint(images + noise), 0, 255).astype(np.uint8)


def unreadable(images, labels, share):
    """A part of the images, each with another laid over it."""
    del labels
    count = int(share * len(images))
    altered = images.copy()
    altered[:count] = np.maximum(images[:count], images[::-1][:count])
    return altered


ALTERED = {
    "nothing": lambda images, _: images,
    "some noise": lambda images, labels: noisy(images, labels, 16),
    "more noise": lambda images, labels: noisy(images, labels, 32),
    "shifted": lambda images, _: np.roll(images, 1, axis=2),
    "no 1": lambda images, labels: images[labels != 1],
    "a tenth unreadable": lambda images, labels: unreadable(images, labels, 0.1),
    "grey for black": lambda images, _: np.maximum(images, 1),
}


@pytest.mark.mnist
def test_what_is_seen_of_real_digits_that_are_altered(real):
    (known, _), (images, labels) = real
    distance, unsure, black = {}, {}, {}
    with Workers(1) as workers:
        reference = judge(known, shipped(), workers)
        for name, alter in ALTERED.items():
            judged = judge(alter(images, labels), shipped(), workers)
            distance[name] = {
                layer: frechet_distance(moments(reference.features[layer]), moments(features))
                for layer, features in judged.features.items()
            }
            unsure[name] = (judged.confidence < 0.9).mean()
            black[name] = (judged.images == 0).mean()
    for layer, base in distance["nothing"].items():
        assert distance["some noise"][layer] > 1.3 * base
        assert distance["more noise"][layer] > 2 * distance["some noise"][layer]
        assert distance["shifted"][layer] > 2 * base
        assert distance["no 1"][layer] > 3 * base
        assert distance["a tenth unreadable"][layer] < 2 * base  # to which it is nearly blind,
    assert unsure["a tenth unreadable"] > 2 * unsure["nothing"]  # and this is not,
    assert unsure["nothing"] == pytest.approx(0.02, abs=0.005)
    assert distance["grey for black"]["cfd-84"] < 1.1 * distance["nothing"]["cfd-84"]
    assert black["nothing"] == pytest.approx(0.807, abs=0.005)
    assert black["grey for black"] == 0  # nor this
