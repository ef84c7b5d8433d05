import hashlib

import numpy as np
import pytest

from tinyddpm.data.dataset import Dataset
from tinyddpm.errors import DataError

IMAGES = np.arange(24, dtype=np.uint8).reshape(2, 3, 4, 1)
LABELS = np.array([7, 3], np.uint8)


def test_the_fingerprint_is_sha256_of_shapes_and_bytes() -> None:
    expected = hashlib.sha256(b"(2, 3, 4, 1)" + bytes(range(24)) + b"(2,)" + bytes([7, 3]))
    assert Dataset("a", IMAGES, LABELS).fingerprint == expected.hexdigest()


def test_the_fingerprint_sees_contents_and_not_layout_or_name() -> None:
    own = Dataset("a", IMAGES, LABELS).fingerprint
    assert Dataset("b", np.asfortranarray(IMAGES), LABELS).fingerprint == own
    changed = IMAGES.copy()
    changed[1, 2, 3, 0] ^= 1
    others = [
        Dataset("a", IMAGES),
        Dataset("a", IMAGES, LABELS[::-1]),
        Dataset("a", IMAGES.reshape(2, 4, 3, 1), LABELS),
        Dataset("a", changed, LABELS),
    ]
    assert len({own, *(other.fingerprint for other in others)}) == 5


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (np.empty((0, 28, 28, 1), np.uint8), None, r"uint8 of shape \(0, 28, 28, 1\)"),
        (IMAGES[..., 0], None, r"uint8 of shape \(2, 3, 4\)"),
        (IMAGES.astype(np.float32), None, "float32"),
        (IMAGES, LABELS[:1], r"2 images.*\n.*\(1,\)"),
        (IMAGES, LABELS[:, None], r"\(2, 1\)"),
        (IMAGES, LABELS.astype(np.int64), "int64"),
    ],
)
def test_what_is_no_data_set_is_refused(images, labels, message) -> None:
    with pytest.raises(DataError, match=message):
        Dataset("a", images, labels)


def test_every_label_has_a_name_if_any_has() -> None:
    assert Dataset("a", IMAGES, LABELS, tuple("01234567")).labels is LABELS
    with pytest.raises(DataError, match=r"labels must lie in 0 … 6") as caught:
        Dataset("a", IMAGES, LABELS, tuple("0123456"))
    assert caught.value.cause == "got 7"
