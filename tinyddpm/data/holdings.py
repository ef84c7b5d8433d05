"""The data sets known by name: what they are, what of them is on this machine, and getting them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from tinyddpm.data import cifar10, mnist
from tinyddpm.data.download import OpenUrl, RemoteFile, Tell, fetch, open_https, tell_nobody
from tinyddpm.data.folders import data_folders
from tinyddpm.data.packed import read_each
from tinyddpm.data.parts import Part
from tinyddpm.errors import DataError

State = Literal["built in", "whole", "in part", "absent"]
Contents = Callable[[Mapping[str, Path], int], Iterator[tuple[str, bytearray]]]


@dataclass(frozen=True)
class KnownSet:
    """A data set known by name.

    Attributes:
        name: what ``--data`` calls it.
        shape: (H, W, C) of its images.
        train: how many there are to train with.
        test: how many to test with.
        parts: its files, unpacked; none if it is built in.
        locate: the files that are there, by the name of the part, of those in the given folders.
        contents: what each of those holds, in at most so many bytes and one more.
        remote: the files to download.
        mirrors: where from.
    """

    name: str
    shape: tuple[int, int, int]
    train: int
    test: int
    parts: tuple[Part, ...] = ()
    locate: Callable[[list[Path]], dict[str, Path]] = lambda _: {}
    contents: Contents = read_each
    remote: tuple[RemoteFile, ...] = ()
    mirrors: tuple[str, ...] = ()

    @property
    def folders(self) -> list[Path]:
        """Where its files are looked for, in order; downloads go into the last."""
        return data_folders(self.name) if self.parts else []

    def found(self) -> dict[str, Path]:
        """Return the file that holds each part, of those that are there."""
        return self.locate(self.folders)

    def state(self) -> State:
        """Return how much of it is there."""
        if not self.parts:
            return "built in"
        found = len(self.found())
        return "absent" if not found else "whole" if found == len(self.parts) else "in part"


class Verdict(NamedTuple):
    """Whether a part is as it must be: ``fault`` is empty if so, or if it is missing (no path)."""

    part: Part
    path: Path | None
    fault: str


def verify(known: KnownSet) -> Iterator[Verdict]:
    """Compare the size and SHA-256 of each part's content with what they must be."""
    found = known.found()
    faults: dict[str, str] = {}
    for path in dict.fromkeys(found.values()):
        parts = {part.name: part for part in known.parts if found.get(part.name) == path}
        faults |= _faults(known.contents, path, parts)
    for part in known.parts:
        yield Verdict(part, found.get(part.name), faults.get(part.name, ""))


def _faults(contents: Contents, path: Path, parts: dict[str, Part]) -> dict[str, str]:
    """Say what is wrong with each of the parts that ``path`` holds, or nothing."""
    faults: dict[str, str] = {}
    most = max(part.size for part in parts.values())
    try:
        for name, content in contents(dict.fromkeys(parts, path), most):
            faults[name] = _fault(parts[name], content)
    except DataError as error:
        return dict.fromkeys(parts, error.cause or str(error)) | faults
    return faults


def _fault(part: Part, content: bytearray) -> str:
    if len(content) != part.size:
        found = "more" if len(content) > part.size else str(len(content))
        return f"expected {part.size} bytes of {part.name}, found {found}"
    digest = hashlib.sha256(content).hexdigest()
    return "" if digest == part.sha256 else f"SHA-256 is {digest}, not {part.sha256}"


def obtain(
    known: KnownSet,
    *,
    tell: Tell = tell_nobody,
    open_url: OpenUrl = open_https,
) -> list[Path]:
    """Return the files of ``known``; if it is not whole on this machine it is downloaded.

    Args:
        known: the data set.
        tell: told of each download.
        open_url: how to open a URL.

    Raises:
        DataError: it cannot be had, or what is there is damaged.
        StorageError: the folder for downloads cannot be written to.
    """
    if known.state() in {"absent", "in part"}:
        folder = known.folders[-1]
        for file in known.remote:
            fetch(file, known.mirrors, folder, tell=tell, open_url=open_url)
    verdicts = list(verify(known))
    bad = [f"{verdict.path}: {verdict.fault}" for verdict in verdicts if verdict.fault]
    if bad:
        raise DataError(
            f"data set {known.name} is damaged",
            cause="; ".join(bad),
            remedy="delete these files and fetch them again",
        )
    return list(dict.fromkeys(verdict.path for verdict in verdicts if verdict.path))


def _idx_set(catalogue: mnist.Catalogue) -> KnownSet:
    return KnownSet(
        catalogue.name,
        (28, 28, 1),
        60_000,
        10_000,
        catalogue.parts,
        lambda folders: mnist.locate(catalogue.parts, folders),
        remote=tuple(file for pair in catalogue.files.values() for file in pair),
        mirrors=catalogue.mirrors,
    )


KNOWN = {
    known.name: known
    for known in (
        KnownSet("glyphs", (16, 16, 1), 10_000, 10_000),
        _idx_set(mnist.MNIST),
        _idx_set(mnist.FASHION_MNIST),
        KnownSet(
            cifar10.NAME,
            (32, 32, 3),
            50_000,
            10_000,
            cifar10.PARTS,
            lambda folders: cifar10.locate([part.name for part in cifar10.PARTS], folders),
            cifar10.contents,
            (cifar10.ARCHIVE,),
            cifar10.MIRRORS,
        ),
    )
}
