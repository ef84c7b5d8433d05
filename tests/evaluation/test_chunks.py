"""Chunks: a stop costs one of them, and nothing else depends on it."""

import io
import json
import tracemalloc
import zipfile

import numpy as np
import pytest

from tinyddpm.errors import DataError, StorageError
from tinyddpm.evaluation.chunks import CHUNK, ChunkFolder, chunk_count

SHAPE = (4, 4, 1)
SETTINGS = {"seed": 0, "steps": 50}


def a_folder(root, **settings):
    return ChunkFolder(root, "quality-8-50-0", SETTINGS | settings, SHAPE)


class Generator:
    """Images that say their number; remembers which chunks it was asked for."""

    def __init__(self, stop_at=None):
        self.asked, self.stop_at = [], stop_at

    def __call__(self, first):
        if first == self.stop_at:
            raise KeyboardInterrupt
        self.asked.append(first)
        numbers = first + np.arange(CHUNK)
        return np.broadcast_to(numbers[:, None, None, None] % 251, (CHUNK, *SHAPE)).astype(np.uint8)


def test_images_are_those_of_whole_chunks(tmp_path):
    generate = Generator()
    images = a_folder(tmp_path).collect(2 * CHUNK + 3, generate)
    assert generate.asked == [0, CHUNK, 2 * CHUNK]
    assert images.shape == (2 * CHUNK + 3, *SHAPE)
    np.testing.assert_array_equal(images[:, 0, 0, 0], np.arange(2 * CHUNK + 3) % 251)


def test_what_there_is_is_not_generated_again(tmp_path):
    first = a_folder(tmp_path).collect(CHUNK + 1, Generator())
    generate, folder = Generator(), a_folder(tmp_path)
    assert folder.missing(3 * CHUNK) == [2]
    more = folder.collect(3 * CHUNK, generate)
    assert generate.asked == [2 * CHUNK]
    np.testing.assert_array_equal(more[: CHUNK + 1], first)
    few = a_folder(tmp_path).collect(5, Generator(stop_at=0))
    np.testing.assert_array_equal(few, first[:5])


def test_a_stop_costs_one_chunk(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        a_folder(tmp_path).collect(4 * CHUNK, Generator(stop_at=2 * CHUNK))
    generate = Generator()
    images = a_folder(tmp_path).collect(4 * CHUNK, generate)
    assert generate.asked == [2 * CHUNK, 3 * CHUNK]
    whole = a_folder(tmp_path / "another").collect(4 * CHUNK, Generator())
    np.testing.assert_array_equal(images, whole)


def packed(shape, size):
    """A .npz whose header promises bytes of ``shape``, and which holds ``size`` of them."""
    member, file = io.BytesIO(), io.BytesIO()
    header = {"descr": "|u1", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(member, header)
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("images.npy", member.getvalue() + bytes(size))
    return file.getvalue()


LARGE = 30 * 2**20
DAMAGE = {
    "empty": lambda _: b"",
    "cut at its head": lambda _: b"PK\x03\x04",
    "cut short": lambda whole: whole[:-30],
    "other images": lambda _: packed((CHUNK, 5, 5, 1), CHUNK * 25),
    "a header too large": lambda _: packed((2**40,), 10),
    "content too large": lambda _: packed((LARGE,), LARGE),
    "content too large for its header": lambda _: packed((CHUNK, *SHAPE), LARGE),
    "no zip": lambda _: bytes(LARGE),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=list(DAMAGE))
def test_a_damaged_chunk_is_named_and_read_in_little_memory(tmp_path, damage):
    folder = a_folder(tmp_path)
    folder.collect(2 * CHUNK, Generator())
    chunk = folder.path / "chunk-00001.npz"
    chunk.write_bytes(damage(chunk.read_bytes()))
    tracemalloc.start()
    try:
        for look in (folder.missing, lambda images: folder.collect(images, Generator(stop_at=0))):
            with pytest.raises(DataError, match=str(chunk)) as refusal:
                look(2 * CHUNK)
            assert refusal.value.cause
            assert "delete it" in refusal.value.remedy
        assert tracemalloc.get_traced_memory()[1] < 4 * 2**20
    finally:
        tracemalloc.stop()
    chunk.unlink()  # as the error says
    generate = Generator()
    folder.collect(2 * CHUNK, generate)
    assert generate.asked == [CHUNK]


def test_other_settings_have_another_folder(tmp_path):
    folder, other = a_folder(tmp_path), a_folder(tmp_path, eta=0.0)
    folder.collect(1, Generator())
    assert folder.path != other.path
    assert other.missing(1) == [0]
    assert folder.path.parent == tmp_path
    in_another_order = dict(reversed(SETTINGS.items()))
    assert ChunkFolder(tmp_path, "quality-8-50-0", in_another_order, SHAPE).path == folder.path
    assert folder.path.name.startswith("quality-8-50-0-")
    assert json.loads((folder.path / "settings.json").read_text()) == SETTINGS


def test_a_folder_that_cannot_be_made_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="file"):
        a_folder(tmp_path / "file").collect(1, Generator())


@pytest.mark.parametrize(("images", "chunks"), [(1, 1), (CHUNK, 1), (CHUNK + 1, 2), (10_000, 79)])
def test_how_many_chunks_there_are(images, chunks):
    assert chunk_count(images) == chunks
