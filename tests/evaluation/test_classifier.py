"""A fitted classifier's file, and the one that comes with the package."""

import json
import os
import tracemalloc
import warnings
import zipfile
from dataclasses import replace

import numpy as np
import pytest
from fake_mnist import bars

from tinyddpm.data import load
from tinyddpm.errors import CheckpointError, DataError
from tinyddpm.evaluation.classifier import Classifier, accuracy, read, save, shipped
from tinyddpm.evaluation.digits import Digits, digits_of
from tinyddpm.evaluation.fit_lenet import Recipe
from tinyddpm.evaluation.lenet import LeNet
from tinyddpm.parallel import Workers

SHIPPED_SHA256 = "ea5b13e22afe01a20d2784ad10ef9028bd28829b688bbd18410060d437181daa"


def a_classifier():
    return Classifier(LeNet(5), Recipe(seed=5, epochs=1), "fingerprint", 0.25)


def test_the_shipped_one_is_what_it_was():
    classifier = shipped()
    assert classifier.sha256 == SHIPPED_SHA256
    assert classifier.recipe == Recipe()  # what --fit-classifier follows
    assert classifier.test_accuracy >= 0.99


@pytest.mark.mnist
def test_the_shipped_one_knows_the_digits(real_data):
    classifier = shipped()
    test = load("mnist", split="test", data_dir=real_data / "mnist")
    found = accuracy(classifier.network, digits_of(test))
    assert found >= 0.99
    assert found == pytest.approx(classifier.test_accuracy, abs=3e-4)  # rounding, here and there


@pytest.mark.mnist
def test_the_shipped_one_learnt_from_mnist(real_data):
    train = load("mnist", split="train", data_dir=real_data / "mnist")
    assert shipped().data_fingerprint == train.fingerprint


def test_a_file_holds_all_of_it(tmp_path):
    classifier = a_classifier()
    for name in ("one.npz", "two.npz"):
        save(tmp_path / name, classifier)
    again = read(tmp_path / "one.npz")
    assert again.about() == classifier.about()
    np.testing.assert_array_equal(
        again.network.parameters.value, classifier.network.parameters.value
    )
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "two.npz").read_bytes()
    assert (tmp_path / "one.npz").stat().st_size < 2**20


@pytest.mark.parametrize("count", [30, 230])
def test_its_accuracy_is_the_share_that_it_names_rightly(count):
    network, images = a_classifier().network, bars(count).images
    labels = network.forward(images.astype(np.float32) / 255)[0].logits.argmax(axis=1)
    labels[-3:] += 1
    assert accuracy(network, Digits(images, labels)) == pytest.approx(1 - 3 / count)


def test_what_it_sees_depends_on_no_worker():
    images, classifier = bars(450).images, a_classifier()
    seen = []
    for threads in (1, 2, 3):
        with Workers(threads) as workers:
            seen.append(classifier.look_at(images, workers))
    for others in zip(*seen, strict=True):
        assert len(others[0]) == 450
        for other in others[1:]:
            np.testing.assert_array_equal(other, others[0])
    alone, _ = classifier.network.forward(images[430:431].astype(np.float32) / 255)
    np.testing.assert_allclose(seen[0].hidden[430], alone.hidden[0], atol=1e-5)


@pytest.mark.parametrize("shape", [(2, 16, 16, 1), (2, 28, 28, 3), (2, 32, 32, 1)])
def test_other_images_are_refused(shape):
    with Workers(1) as workers, pytest.raises(DataError, match="28×28 grey") as refused:
        a_classifier().look_at(np.zeros(shape, np.uint8), workers)
    assert "×".join(map(str, shape[1:])) in refused.value.cause


def rewritten(path, **changes):
    """The file with some of its arrays replaced, or left out where None."""
    with np.load(path) as archive:
        arrays = {name: archive[name] for name in archive.files} | changes
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})


def about_with(path, **changes):
    with np.load(path) as archive:
        about = json.loads(archive["about"].tobytes())
    return np.frombuffer(json.dumps(about | changes).encode(), np.uint8)


def one_array(path):
    with path.open("wb") as file:
        np.save(file, np.zeros(3))


def with_nan(path):
    values = np.full(61_706, np.nan, np.float32)
    save(path, replace(a_classifier(), network=LeNet(values=values)))


def with_an_array_twice(path):
    with np.load(path) as archive:
        bias = archive["head.bias"]
    with zipfile.ZipFile(path, "a") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        with archive.open("head.bias.npy", "w") as member:
            np.save(member, bias)


DAMAGE = {
    "is not there": lambda path: path.unlink(),
    "is empty": lambda path: path.write_bytes(b""),
    "is text": lambda path: path.write_text("weights"),
    "is cut short": lambda path: path.write_bytes(path.read_bytes()[:-1000]),
    "is one array": one_array,
    "lacks an array": lambda path: rewritten(path, **{"head.bias": None}),
    "lacks its record": lambda path: rewritten(path, about=None),
    "has an array too many": lambda path: rewritten(path, more=np.zeros(3)),
    "has an array twice": with_an_array_twice,
    "has a wrong shape": lambda path: rewritten(path, **{"head.bias": np.zeros(9, np.float32)}),
    "has a wrong type": lambda path: rewritten(path, **{"head.bias": np.zeros(10)}),
    "has other weights": lambda path: rewritten(path, **{"head.bias": np.zeros(10, np.float32)}),
    "has NaN": with_nan,
    "has another hash": lambda path: rewritten(path, about=about_with(path, sha256="0" * 64)),
    "has another recipe": lambda path: rewritten(path, about=about_with(path, recipe={"x": 1})),
    "has pickled objects": lambda path: rewritten(path, about=np.array([{}], object)),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_file_that_is_damaged_gives_one_error(tmp_path, damage):
    path = tmp_path / "lenet.npz"
    save(path, a_classifier())
    DAMAGE[damage](path)
    with pytest.raises(CheckpointError, match=r"lenet\.npz") as refused:
        read(path)
    assert refused.value.cause
    assert "--fit-classifier" in refused.value.remedy


class Exploit:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


def test_nothing_is_unpickled(tmp_path):
    path = tmp_path / "lenet.npz"
    save(path, a_classifier())
    rewritten(path, about=np.array([Exploit(tmp_path / "owned")]))
    with pytest.raises(CheckpointError, match=r"lenet\.npz"):
        read(path)
    assert not (tmp_path / "owned").exists()


def test_a_device_is_not_read(tmp_path):
    (tmp_path / "lenet.npz").symlink_to("/dev/null")
    with pytest.raises(CheckpointError, match="Not a plain file"):
        read(tmp_path / "lenet.npz")


def test_a_bomb_is_refused_in_little_memory(tmp_path):
    path = tmp_path / "lenet.npz"
    np.savez_compressed(path, about=np.zeros(2**26, np.uint8))
    assert path.stat().st_size < 2**17
    tracemalloc.start()
    try:
        with pytest.raises(CheckpointError, match="at most 1048576 bytes"):
            read(path)
        assert tracemalloc.get_traced_memory()[1] < 2**22
    finally:
        tracemalloc.stop()


def test_every_flipped_byte_is_found(tmp_path):
    path = tmp_path / "lenet.npz"
    classifier = a_classifier()
    save(path, classifier)
    whole = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        first = archive.getinfo("conv1.weight.npy").header_offset
    for place in (first + 200, len(whole) // 2, len(whole) - 2000):
        damaged = bytearray(whole)
        damaged[place] ^= 1
        path.write_bytes(damaged)
        try:
            again = read(path)
        except CheckpointError:
            continue
        assert again.about() == classifier.about()  # a byte that nothing depends on


def test_the_hash_is_of_the_weights_alone():
    classifier = a_classifier()
    assert replace(classifier, test_accuracy=0.5).sha256 == classifier.sha256
    other = LeNet(values=classifier.network.parameters.value + np.float32(1e-3))
    assert replace(classifier, network=other).sha256 != classifier.sha256
