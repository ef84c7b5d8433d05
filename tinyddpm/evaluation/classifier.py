"""A fitted classifier and its file: the weights, how they came about, and their fingerprint.

The file is a .npz of float32 arrays under the parameters' names, and of a JSON object, ``about``,
with the recipe, the fingerprint of the training data, the accuracy on the test images and the
SHA-256 of the weights, which is checked on reading. Distances between features mean something only
beside the fingerprint of the classifier that gave them; the one that comes with the package is
``shipped()``.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from tinyddpm.arrays import Array
from tinyddpm.data.dataset import ByteArray
from tinyddpm.errors import CheckpointError
from tinyddpm.evaluation.digits import Digits, check_shape
from tinyddpm.evaluation.fit_lenet import Recipe
from tinyddpm.evaluation.lenet import Activations, LeNet, pixels
from tinyddpm.files import open_plain, write_atomically
from tinyddpm.parallel import Workers, shard_slices
from tinyddpm.zips import check_members

SHIPPED = "lenet-mnist.npz"
_ABOUT = "about"
_SHARD = 200  # images
_MOST_BYTES = 2**20  # the weights are 246,824


@dataclass(frozen=True, eq=False)
class Classifier:
    """A network that was taught the digits.

    Attributes:
        network: with its weights.
        recipe: how it was taught.
        data_fingerprint: of the training images and labels.
        test_accuracy: the share of the test images that it names rightly.
    """

    network: LeNet
    recipe: Recipe
    data_fingerprint: str
    test_accuracy: float

    @property
    def sha256(self) -> str:
        """The fingerprint of the weights, in hex: of the flat little-endian float32 values."""
        flat = np.ascontiguousarray(self.network.parameters.value, "<f4")
        return hashlib.sha256(flat.data).hexdigest()

    def look_at(self, images: ByteArray, workers: Workers) -> Activations:
        """Return what the network makes of ``images`` (N, 28, 28, 1): the same on any workers.

        Raises:
            DataError: they are of another shape.
        """
        check_shape(images.shape)
        self.network.parameters.prepare()
        slices = shard_slices(len(images), _SHARD)
        parts: list[Activations] = []

        def compute(_: int, index: int) -> Activations:
            return self.network.forward(pixels(images[slices[index]]))[0]

        workers.run(len(slices), compute, lambda _, part: parts.append(part))
        return Activations(*map(np.concatenate, zip(*parts, strict=True)))

    def about(self) -> dict[str, Any]:
        """Return what is known of it, in plain dictionaries and numbers."""
        return {
            "network": "LeNet-5",
            "recipe": asdict(self.recipe),
            "data_fingerprint": self.data_fingerprint,
            "test_accuracy": self.test_accuracy,
            "sha256": self.sha256,
        }


def accuracy(network: LeNet, digits: Digits) -> float:
    """Return the share of ``digits`` that ``network`` names rightly."""
    right = 0
    for part in shard_slices(len(digits.images), _SHARD):
        seen, _ = network.forward(pixels(digits.images[part]))
        right += int((seen.logits.argmax(axis=1) == digits.labels[part]).sum())
    return right / len(digits.images)


def save(path: Path, classifier: Classifier) -> None:
    """Write ``classifier`` to ``path``, the same bytes for the same classifier.

    Raises:
        StorageError: the file cannot be written.
    """
    about = np.frombuffer(json.dumps(classifier.about()).encode(), np.uint8)
    arrays: dict[str, Any] = {p.name: p.value for p in classifier.network.parameters}

    def write(file: BinaryIO) -> None:
        np.savez(file, **{_ABOUT: about, **arrays})

    write_atomically(path, write)


def read(path: Path) -> Classifier:
    """Return the classifier in ``path``.

    Raises:
        CheckpointError: there is no such file, it is not a classifier's, or it is damaged.
    """
    try:
        _check_sizes(path)
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        about = json.loads(arrays.pop(_ABOUT).tobytes())
        classifier = Classifier(
            LeNet(values=_flat(arrays)),
            Recipe(**about["recipe"]),
            str(about["data_fingerprint"]),
            float(about["test_accuracy"]),
        )
        if classifier.sha256 != about["sha256"]:
            raise ValueError(f"SHA-256 {classifier.sha256}, and it says {about['sha256']}")
    except Exception as error:  # zipfile, numpy and json meet damaged bytes with a dozen types
        raise CheckpointError(
            f"{path} is damaged, or is not a classifier that this program wrote",
            cause=str(error) or type(error).__name__,
            remedy="tinyddpm evaluate --fit-classifier --out FILE writes one",
        ) from error
    return classifier


def shipped() -> Classifier:
    """Return the classifier that comes with the package.

    Raises:
        CheckpointError: its file is missing or damaged.
    """
    with resources.as_file(resources.files(__package__) / "weights" / SHIPPED) as path:
        return read(path)


def _check_sizes(path: Path) -> None:
    """Refuse a file that would fill the memory, before any of it is unpacked."""
    with open_plain(path) as file, zipfile.ZipFile(file) as archive:
        infos = archive.infolist()
    check_members(infos, path.stat().st_size)
    size = sum(info.file_size for info in infos)
    if size > _MOST_BYTES:
        raise ValueError(f"expected at most {_MOST_BYTES} bytes of arrays, found {size}")


def _flat(arrays: dict[str, Array]) -> Array:
    """The flat values of a network, from one float32 array for each parameter."""
    expected = {p.name: (p.shape, "float32") for p in LeNet().parameters}
    found = {name: (array.shape, str(array.dtype)) for name, array in arrays.items()}
    if found != expected:
        raise ValueError(f"expected the arrays {expected}, found {found}")
    flat: Array = np.concatenate([arrays[name].ravel() for name in expected])
    if not np.isfinite(flat).all():
        raise ValueError("a weight is not finite")
    return flat
