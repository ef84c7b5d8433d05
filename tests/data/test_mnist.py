"""MNIST and Fashion-MNIST: where their files are looked for, and the real ones where they are."""

import gzip
import hashlib
import os
import struct
from pathlib import Path

import pytest

from tinyddpm.data import load
from tinyddpm.data.holdings import KNOWN
from tinyddpm.data.mnist import FASHION_MNIST, MNIST, Catalogue, load_idx
from tinyddpm.errors import DataError, MissingFilesError

IMAGES = struct.pack(">4I", 0x0803, 3, 2, 2) + bytes(range(12))
LABELS = struct.pack(">2I", 0x0801, 3) + bytes([7, 8, 9])


def put(folder: Path, images: str, labels: str, label_bytes: bytes = LABELS) -> Path:
    """Lay down a small data set under the given names."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in ((images, IMAGES), (labels, label_bytes)):
        packed = gzip.compress(content) if name.endswith(".gz") else content
        (folder / name).write_bytes(packed)
    return folder


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sees this machine's own folders."""
    monkeypatch.delenv("TINYDDPM_DATA", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


def no_network(url: str):
    raise OSError(f"no route to {url}")


@pytest.mark.parametrize(
    ("images", "labels"),
    [
        ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"),
        ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
        ("train-images.idx3-ubyte", "train-labels.idx1-ubyte"),
        ("train-images-idx3-ubyte.gz", "train-labels.idx1-ubyte"),
    ],
)
def test_packed_and_unpacked_names_are_read(tmp_path: Path, images: str, labels: str) -> None:
    data = load("mnist", data_dir=put(tmp_path, images, labels))
    assert data.name == "mnist"
    assert data.images.tobytes() == bytes(range(12))
    assert data.images.shape == (3, 2, 2, 1)
    assert data.labels is not None
    assert data.labels.tolist() == [7, 8, 9]


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
def test_the_lookup_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """The farthest place first, then each that takes precedence over it."""
    catalogue = {"mnist": MNIST, "fashion-mnist": FASHION_MNIST}[name]
    names = ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")

    def place(folder: Path, mark: int) -> Path:
        return put(folder, *names, LABELS[:-1] + bytes([mark]))

    def loaded(data_dir: Path | None = None) -> int:
        labels = load_idx(catalogue, "test", data_dir, open_url=no_network).labels
        assert labels is not None
        return int(labels[-1])

    place(tmp_path / "home" / ".cache" / "tinyddpm" / name, 1)
    assert loaded() == 1
    place(tmp_path / "xdg" / "tinyddpm" / name, 2)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert loaded() == 2
    monkeypatch.setenv("TINYDDPM_DATA", str(tmp_path / "own"))
    assert loaded() == 2
    place(tmp_path / "own" / name, 3)
    assert loaded() == 3
    assert loaded(place(tmp_path / "given", 4)) == 4


def test_what_is_nowhere_is_downloaded_into_the_cache(tmp_path: Path) -> None:
    def served(url: str):
        return (server / url.rpartition("/")[2]).open("rb")

    server = put(tmp_path / "server", "train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz")
    files = tuple(
        type(file)(file.name, len(content), hashlib.sha256(content).hexdigest())
        for file in MNIST.files["train"]
        for content in [(server / file.name).read_bytes()]
    )
    small = Catalogue("mnist", MNIST.class_names, {"train": (files[0], files[1])}, MNIST.mirrors)
    told = []

    def tell(file, mirror):
        told.append(mirror + file.name)

    first = load_idx(small, "train", tell=tell, open_url=served)
    again = load_idx(small, "train", tell=tell, open_url=no_network)
    assert told == [MNIST.mirrors[0] + file.name for file in files]
    assert first.fingerprint == again.fingerprint
    cached = tmp_path / "home" / ".cache" / "tinyddpm" / "mnist" / files[0].name
    assert cached.read_bytes() == (server / files[0].name).read_bytes()


def test_without_a_network_the_files_and_their_place_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        load_idx(MNIST, "train", open_url=no_network)
    text = str(caught.value)
    for pair in MNIST.files.values():
        for file in pair:
            assert file.name in caught.value.remedy
    assert str(tmp_path / "home" / ".cache" / "tinyddpm" / "mnist") in caught.value.remedy
    assert text.count("no route to https://") == len(MNIST.mirrors)


def test_a_given_folder_without_the_files_is_named_and_nothing_is_fetched(tmp_path: Path) -> None:
    put(tmp_path, "train-images-idx3-ubyte.gz", "other")
    with pytest.raises(MissingFilesError) as caught:
        load("mnist", data_dir=tmp_path)
    assert caught.value.args[0] == f"{tmp_path} lacks train-labels-idx1-ubyte.gz"
    assert "t10k-images-idx3-ubyte.gz" in caught.value.remedy
    assert not (tmp_path / "home").exists()


def test_images_and_labels_must_agree(tmp_path: Path) -> None:
    two = struct.pack(">2I", 0x0801, 2) + bytes(2)
    put(tmp_path, "train-images-idx3-ubyte", "train-labels-idx1-ubyte", two)
    with pytest.raises(DataError, match=rf"mnist in {tmp_path}: 3 images.*\n.*\(2,\)"):
        load("mnist", data_dir=tmp_path)


def test_without_a_home_the_way_out_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless(_: Path) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "expanduser", homeless)
    with pytest.raises(DataError, match=r"(?s)home directory.*TINYDDPM_DATA"):
        load("mnist")


def test_without_a_home_the_folder_that_is_named_is_enough(tmp_path: Path, monkeypatch) -> None:
    """It is then downloaded into, too."""
    monkeypatch.setenv("XDG_CACHE_HOME", "~nobody-of-this-name/cache")
    monkeypatch.setenv("TINYDDPM_DATA", str(tmp_path / "own"))
    with pytest.raises(DataError, match="cannot be downloaded") as caught:
        load_idx(MNIST, "train", open_url=no_network)
    assert f"into {tmp_path / 'own' / 'mnist'};" in caught.value.remedy
    put(tmp_path / "own" / "mnist", "train-images-idx3-ubyte", "train-labels-idx1-ubyte")
    assert load("mnist").folder == tmp_path / "own" / "mnist"
    assert KNOWN["mnist"].folders == [tmp_path / "own" / "mnist"]


def test_the_home_of_nobody_is_no_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TINYDDPM_DATA", "~nobody-of-this-name/data")
    with pytest.raises(DataError, match=r"TINYDDPM_DATA=~nobody-of-this-name/data is not a folder"):
        load("mnist")


@pytest.mark.parametrize("catalogue", [MNIST, FASHION_MNIST], ids=lambda each: each.name)
def test_mirrors_are_https_folders(catalogue: Catalogue) -> None:
    assert len(catalogue.mirrors) == 2
    for mirror in catalogue.mirrors:
        assert mirror.startswith("https://")
        assert mirror.endswith("/")


REAL = Path(os.environ.get("TINYDDPM_DATA") or Path(__file__).parents[3] / "shared" / "data")
FACTS = {
    "mnist": ([5, 0, 4, 1, 9], [7, 2, 1, 0, 4], 33.318421, 78.567490, 33.791224),
    "fashion-mnist": ([9, 0, 0, 3, 0], [9, 2, 1, 1, 6], 72.940352, 90.021182, 73.146567),
}


@pytest.mark.mnist
@pytest.mark.parametrize("name", FACTS)
def test_the_real_files(name: str) -> None:
    folder = REAL / name
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there; set TINYDDPM_DATA to the folder that holds {name}")
    train_labels, test_labels, mean, std, test_mean = FACTS[name]
    train, test = (load(name, split=split, data_dir=folder) for split in ("train", "test"))
    assert train.images.shape == (60_000, 28, 28, 1)
    assert test.images.shape == (10_000, 28, 28, 1)
    assert train.labels is not None
    assert test.labels is not None
    assert train.labels[:5].tolist() == train_labels
    assert test.labels[:5].tolist() == test_labels
    assert set(train.labels.tolist()) == set(range(10))
    assert train.images.mean() == pytest.approx(mean, abs=1e-6)
    assert train.images.std() == pytest.approx(std, abs=1e-6)
    assert test.images.mean() == pytest.approx(test_mean, abs=1e-6)


@pytest.mark.mnist
@pytest.mark.parametrize("catalogue", [MNIST, FASHION_MNIST], ids=lambda each: each.name)
def test_the_real_files_have_the_catalogued_sizes_and_hashes(catalogue: Catalogue) -> None:
    folder = REAL / catalogue.name
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there; set TINYDDPM_DATA to the folder that holds it")
    for pair in catalogue.files.values():
        for file in pair:
            content = (folder / file.name).read_bytes()
            assert len(content) == file.size
            assert hashlib.sha256(content).hexdigest() == file.sha256
