"""Images that are told apart as easily as nothing else: stand-ins for digits, in MNIST's files."""

import struct
from pathlib import Path

import numpy as np

from tinyddpm.data.dataset import Dataset
from tinyddpm.evaluation.digits import Digits

FILES = {"train": "train", "test": "t10k"}


def bars(count: int, seed: int = 0) -> Digits:
    """Digit d is a bright bar, 3 pixels wide and somewhere up and down, at column 3 + 2 d."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, 10, count)
    images = np.zeros((count, 28, 28, 1), np.uint8)
    for image, label in zip(images, labels, strict=True):
        top, grey = random.integers(4, 9), random.integers(150, 256)
        image[top : top + 16, 3 + 2 * label : 6 + 2 * label] = grey
    return Digits(images, labels)


def as_dataset(digits: Digits) -> Dataset:
    """The same as a data set."""
    return Dataset("mnist", digits.images, digits.labels.astype(np.uint8))


def write_mnist(folder: Path, train: Digits, test: Digits) -> Path:
    """Lay both down as IDX files."""
    folder.mkdir(parents=True, exist_ok=True)
    for split, (images, labels) in zip(FILES.values(), (train, test), strict=True):
        header = struct.pack(">4I", 0x0803, *images.shape[:3])
        (folder / f"{split}-images-idx3-ubyte").write_bytes(header + images.tobytes())
        header = struct.pack(">2I", 0x0801, len(labels))
        body = labels.astype(np.uint8).tobytes()
        (folder / f"{split}-labels-idx1-ubyte").write_bytes(header + body)
    return folder
