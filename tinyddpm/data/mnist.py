"""MNIST (LeCun, Cortes & Burges) and Fashion-MNIST (Xiao et al. 2017, arXiv:1708.07747).

Both are four IDX files: 60,000 training and 10,000 test images of 28 × 28 bytes, and their labels,
0 to 9.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tinyddpm.data.dataset import DIGITS, Dataset, Split
from tinyddpm.data.download import OpenUrl, RemoteFile, Tell, fetch, open_https, tell_nobody
from tinyddpm.data.folders import data_folders
from tinyddpm.data.idx import read_images, read_labels
from tinyddpm.data.parts import Part
from tinyddpm.errors import DataError, MissingFilesError


@dataclass(frozen=True)
class Catalogue:
    """The files of a data set, where they can be had, and what they hold.

    Attributes:
        name: of the data set.
        class_names: of its labels.
        files: (images, labels) for each split.
        mirrors: starts of URLs, up to a file's name.
        parts: the files unpacked.
    """

    name: str
    class_names: tuple[str, ...]
    files: Mapping[Split, tuple[RemoteFile, RemoteFile]]
    mirrors: tuple[str, ...]
    parts: tuple[Part, ...] = ()


MNIST = Catalogue(
    "mnist",
    DIGITS,
    {
        "train": (
            RemoteFile(
                "train-images-idx3-ubyte.gz",
                9_912_422,
                "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
            ),
            RemoteFile(
                "train-labels-idx1-ubyte.gz",
                28_881,
                "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
            ),
        ),
        "test": (
            RemoteFile(
                "t10k-images-idx3-ubyte.gz",
                1_648_877,
                "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
            ),
            RemoteFile(
                "t10k-labels-idx1-ubyte.gz",
                4_542,
                "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
            ),
        ),
    },
    (
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
    ),
    (
        Part(
            "train-images-idx3-ubyte",
            47_040_016,
            "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        ),
        Part(
            "train-labels-idx1-ubyte",
            60_008,
            "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        ),
        Part(
            "t10k-images-idx3-ubyte",
            7_840_016,
            "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        ),
        Part(
            "t10k-labels-idx1-ubyte",
            10_008,
            "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        ),
    ),
)

FASHION_MNIST = Catalogue(
    "fashion-mnist",
    (
        "t-shirt",
        "trouser",
        "pullover",
        "dress",
        "coat",
        "sandal",
        "shirt",
        "sneaker",
        "bag",
        "ankle boot",
    ),
    {
        "train": (
            RemoteFile(
                "train-images-idx3-ubyte.gz",
                26_421_880,
                "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
            ),
            RemoteFile(
                "train-labels-idx1-ubyte.gz",
                29_515,
                "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
            ),
        ),
        "test": (
            RemoteFile(
                "t10k-images-idx3-ubyte.gz",
                4_422_102,
                "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
            ),
            RemoteFile(
                "t10k-labels-idx1-ubyte.gz",
                5_148,
                "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
            ),
        ),
    },
    (
        "https://storage.googleapis.com/tensorflow/tf-keras-datasets/",
        "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/",
    ),
    (
        Part(
            "train-images-idx3-ubyte",
            47_040_016,
            "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        ),
        Part(
            "train-labels-idx1-ubyte",
            60_008,
            "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        ),
        Part(
            "t10k-images-idx3-ubyte",
            7_840_016,
            "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        ),
        Part(
            "t10k-labels-idx1-ubyte",
            10_008,
            "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
        ),
    ),
)


def load_idx(
    catalogue: Catalogue,
    split: Split,
    data_dir: Path | None = None,
    *,
    tell: Tell = tell_nobody,
    open_url: OpenUrl = open_https,
) -> Dataset:
    """Return a split of ``catalogue``, its files packed or unpacked.

    With ``data_dir`` they must lie directly in it. Otherwise they are looked for in
    ``data_folders(catalogue.name)`` and, where they are in none of them, downloaded into the last,
    of which ``tell`` is told.

    Raises:
        MissingFilesError: ``data_dir`` lacks a file.
        DataError: a file is missing and cannot be had, or is damaged.
        StorageError: the cache cannot be written to.
    """
    folders = [data_dir] if data_dir else data_folders(catalogue.name)
    paths = []
    for file in catalogue.files[split]:
        path = _find(file.name.removesuffix(".gz"), folders)
        if path is None and data_dir:
            raise MissingFilesError(
                f"{data_dir} lacks {file.name}", remedy=_instructions(catalogue, data_dir)
            )
        paths.append(path or _download(file, catalogue, folders[-1], tell, open_url))
    images, labels = read_images(paths[0]), read_labels(paths[1])
    return Dataset(catalogue.name, images, labels, catalogue.class_names, paths[0].parent)


def locate(parts: Iterable[Part], folders: list[Path]) -> dict[str, Path]:
    """Return the first file, packed or unpacked, that holds each of ``parts`` and is there."""
    places = {part.name: _find(part.name, folders) for part in parts}
    return {name: path for name, path in places.items() if path}


def _find(unpacked: str, folders: list[Path]) -> Path | None:
    """Return the first place of a file, packed or under one of its two unpacked names."""
    names = (f"{unpacked}.gz", unpacked, unpacked.replace("-idx", ".idx"))
    places = (folder / name for folder in folders for name in names)
    return next((place for place in places if place.is_file()), None)


def _download(
    file: RemoteFile, catalogue: Catalogue, folder: Path, tell: Tell, open_url: OpenUrl
) -> Path:
    try:
        return fetch(file, catalogue.mirrors, folder, tell=tell, open_url=open_url)
    except DataError as error:
        raise DataError(
            f"data set {catalogue.name} is not on this machine and cannot be downloaded",
            cause=f"{error.args[0]}: {error.cause}",
            remedy=_instructions(catalogue, folder),
        ) from error


def _instructions(catalogue: Catalogue, folder: Path) -> str:
    """Say which files to put where, and where from."""
    names = ", ".join(file.name for pair in catalogue.files.values() for file in pair)
    return f"put {names} (or the same unpacked) into {folder}; they are at {catalogue.mirrors[0]}"
