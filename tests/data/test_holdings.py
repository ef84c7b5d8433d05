"""Which data sets are on this machine, whether they are right, and getting them."""

import gzip
import hashlib
import io
import math
from pathlib import Path

import pytest

from tinyddpm.data import LOADERS, holdings
from tinyddpm.data.download import RemoteFile
from tinyddpm.data.holdings import KNOWN, KnownSet, obtain, verify
from tinyddpm.data.mnist import locate
from tinyddpm.data.parts import Part
from tinyddpm.errors import DataError

ONE, TWO = b"one" * 1000, b"two" * 500


def part(name: str, content: bytes) -> Part:
    return Part(name, len(content), hashlib.sha256(content).hexdigest())


def remote(name: str, content: bytes) -> RemoteFile:
    packed = gzip.compress(content, mtime=0)
    return RemoteFile(f"{name}.gz", len(packed), hashlib.sha256(packed).hexdigest())


PARTS = (part("one", ONE), part("two", TWO))
SET = KnownSet(
    "small",
    (1, 1, 1),
    1,
    1,
    PARTS,
    lambda folders: locate(PARTS, folders),
    remote=(remote("one", ONE), remote("two", TWO)),
    mirrors=("https://one.example/",),
)


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """The user's own folder of the set, and the cache's."""
    monkeypatch.setenv("TINYDDPM_DATA", str(tmp_path / "own"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    own, cache = tmp_path / "own" / "small", tmp_path / "cache" / "tinyddpm" / "small"
    own.mkdir(parents=True)
    cache.mkdir(parents=True)
    return own, cache


def served(url: str) -> io.BytesIO:
    content = {"https://one.example/one.gz": ONE, "https://one.example/two.gz": TWO}[url]
    return io.BytesIO(gzip.compress(content, mtime=0))


def no_network(url: str) -> io.BytesIO:
    raise OSError(f"no route to {url}")


def test_every_loader_is_known_and_the_other_way_round() -> None:
    assert KNOWN.keys() == LOADERS.keys()


def test_how_much_is_there(folders) -> None:
    own, cache = folders
    assert KNOWN["glyphs"].state() == "built in"
    assert SET.state() == "absent"
    (cache / "two").write_bytes(TWO)
    assert SET.state() == "in part"
    (own / "one.gz").write_bytes(gzip.compress(ONE))
    assert SET.state() == "whole"
    assert SET.found() == {"one": own / "one.gz", "two": cache / "two"}


def test_content_is_judged_however_it_is_packed(folders) -> None:
    own, _ = folders
    (own / "one.gz").write_bytes(gzip.compress(ONE, 1, mtime=99))
    assert [verdict.fault for verdict in verify(SET)] == ["", ""]
    assert [verdict.path for verdict in verify(SET)] == [own / "one.gz", None]


FAULTS = {
    "another byte": (ONE[:-1] + b"x", "SHA-256 is .*, not " + PARTS[0].sha256),
    "cut": (ONE[:-1], "expected 3000 bytes of one, found 2999"),
    "longer": (ONE + b"x", "expected 3000 bytes of one, found more"),
    "gzip cut": (gzip.compress(ONE)[:-9], "expected a whole gzip file"),
}


@pytest.mark.parametrize(("content", "message"), FAULTS.values(), ids=FAULTS.keys())
def test_faults_are_found_and_keep_the_set_from_being_used(
    folders, content: bytes, message: str
) -> None:
    own, _ = folders
    (own / "one").write_bytes(content)
    (own / "two").write_bytes(TWO)
    verdict, other = verify(SET)
    with pytest.raises(DataError, match=message):
        raise DataError(verdict.fault)
    assert other.fault == ""
    with pytest.raises(DataError, match=r"(?s)damaged.*/own/small/one: .*delete"):
        obtain(SET, open_url=no_network)


def test_what_is_not_whole_is_downloaded_and_told(folders) -> None:
    own, cache = folders
    (own / "two").write_bytes(TWO)
    told: list[str] = []
    files = obtain(SET, tell=lambda file, _: told.append(file.name), open_url=served)
    assert told == ["one.gz", "two.gz"]
    assert files == [cache / "one.gz", own / "two"]
    assert obtain(SET, tell=lambda file, _: told.append(file.name), open_url=no_network) == files
    assert len(told) == 2


def test_without_a_home_the_own_folder_is_downloaded_into(folders, monkeypatch) -> None:
    own, _ = folders
    monkeypatch.setenv("XDG_CACHE_HOME", "~nobody-of-this-name/cache")
    assert obtain(SET, open_url=served) == [own / "one.gz", own / "two.gz"]


def test_without_a_network_the_file_is_named() -> None:
    with pytest.raises(DataError, match=r"cannot download one\.gz"):
        obtain(SET, open_url=no_network)


@pytest.mark.parametrize("known", KNOWN.values(), ids=lambda known: known.name)
def test_the_tables_are_whole(known: KnownSet) -> None:
    assert len({part.sha256 for part in known.parts}) == len(known.parts)
    assert all(len(bytes.fromhex(part.sha256)) == 32 for part in known.parts)
    if known.parts:  # a byte for each pixel and each label; IDX has headers of images and labels
        images, values = known.train + known.test, math.prod(known.shape) + 1
        headers = 0 if known.name == "cifar10" else 2 * (16 + 8)
        assert sum(part.size for part in known.parts) == images * values + headers


@pytest.mark.mnist
@pytest.mark.parametrize("name", [name for name, known in KNOWN.items() if known.parts])
def test_the_real_files_are_right(real_data: Path, monkeypatch, name: str) -> None:
    monkeypatch.setenv("TINYDDPM_DATA", str(real_data))
    if not (real_data / name).is_dir():
        pytest.skip(f"{real_data / name} is not there")
    verdicts = list(holdings.verify(KNOWN[name]))
    assert all(not verdict.fault for verdict in verdicts)
    assert any(verdict.path for verdict in verdicts)
