"""Downloads over a network that fails in every way: a right file, or none and a clear error."""

import hashlib
import io
import subprocess
import sys
import urllib.request
import urllib.response
from email.message import Message
from http.client import IncompleteRead
from pathlib import Path
from urllib.error import HTTPError, URLError

import pytest

from tinyddpm.data.download import RemoteFile, fetch, https_opener, open_https
from tinyddpm.errors import DataError, StorageError

CONTENT = bytes(range(256)) * 3000
FILE = RemoteFile("digits.gz", len(CONTENT), hashlib.sha256(CONTENT).hexdigest())
MIRRORS = ("https://one.example/data/", "https://two.example/")


class Body(io.BytesIO):
    """A response whose reading ends in ``failure``, if there is one, instead of its end."""

    def __init__(self, content: bytes, failure: Exception | None = None) -> None:
        super().__init__(content)
        self.failure = failure

    def read(self, amount: int | None = -1, /) -> bytes:
        block = super().read(amount)
        if not block and self.failure:
            raise self.failure
        return block


def opener_of(answers: dict[str, bytes | Exception | Body], asked: list[str] | None = None):
    """Return an opener that answers each URL with a body or an error."""

    def open_url(url: str) -> Body:
        if asked is not None:
            asked.append(url)
        answer = answers[url]
        if isinstance(answer, Exception):
            raise answer
        return answer if isinstance(answer, Body) else Body(answer)

    return open_url


def visible(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name != ".lock")


def test_fetches_from_the_first_mirror_and_only_once(tmp_path: Path) -> None:
    asked: list[str] = []
    open_url = opener_of({MIRRORS[0] + FILE.name: CONTENT}, asked)
    for _ in range(2):
        path = fetch(FILE, MIRRORS, tmp_path / "new" / "cache", open_url=open_url)
        assert path.read_bytes() == CONTENT
    assert asked == ["https://one.example/data/digits.gz"]
    assert visible(path.parent) == ["digits.gz"]


FAULTS = {
    "wrong bytes": (lambda: CONTENT[:-1] + b"\0", "SHA-256 is "),
    "cut short": (lambda: CONTENT[:1000], "expected 768000 bytes, got 1000"),
    "too long": (lambda: CONTENT + b"\0", "expected 768000 bytes, got more"),
    "empty": (lambda: b"", "got 0"),
    "not found": (lambda: HTTPError("u", 404, "Not Found", Message(), None), "404: Not Found"),
    "no network": (lambda: URLError("no route to host"), "no route to host"),
    "slow": (lambda: TimeoutError("timed out"), "timed out"),
    "slow midway": (lambda: Body(CONTENT[:9], TimeoutError("timed out")), "timed out"),
    "reset midway": (lambda: Body(CONTENT[:9], ConnectionResetError()), "ConnectionResetError"),
    "ended midway": (lambda: Body(CONTENT[:9], IncompleteRead(b"", 9)), "IncompleteRead"),
}


@pytest.mark.parametrize("fault", [fault for fault, _ in FAULTS.values()], ids=FAULTS.keys())
def test_the_second_mirror_is_used_after_any_fault(tmp_path: Path, fault) -> None:
    answers = {MIRRORS[0] + FILE.name: fault(), MIRRORS[1] + FILE.name: CONTENT}
    assert fetch(FILE, MIRRORS, tmp_path, open_url=opener_of(answers)).read_bytes() == CONTENT
    assert visible(tmp_path) == ["digits.gz"]


@pytest.mark.parametrize(("fault", "message"), FAULTS.values(), ids=FAULTS.keys())
def test_without_a_good_mirror_nothing_is_kept_and_each_is_reported(
    tmp_path: Path, fault, message: str
) -> None:
    answers = {mirror + FILE.name: fault() for mirror in MIRRORS}
    with pytest.raises(DataError) as caught:
        fetch(FILE, MIRRORS, tmp_path, open_url=opener_of(answers))
    assert visible(tmp_path) == []
    for mirror in MIRRORS:
        assert mirror in caught.value.cause
    assert caught.value.cause.count(message) == 2
    assert caught.value.remedy == f"put digits.gz (768000 bytes) into {tmp_path}"


def test_no_more_is_read_than_the_size_and_one_byte(tmp_path: Path) -> None:
    class Endless(Body):
        served = 0

        def read(self, amount: int | None = -1, /) -> bytes:
            assert amount is not None
            Endless.served += amount
            return bytes(amount)

    with pytest.raises(DataError, match="got more"):
        fetch(FILE, MIRRORS[:1], tmp_path, open_url=lambda _: Endless(b""))
    assert Endless.served == FILE.size + 1


def test_an_interrupted_download_leaves_nothing(tmp_path: Path) -> None:
    def interrupted(_: str) -> Body:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(FILE, MIRRORS, tmp_path, open_url=interrupted)
    assert visible(tmp_path) == []


def test_the_stump_of_a_killed_process_is_removed(tmp_path: Path) -> None:
    (tmp_path / ".digits.gz.1-1.part").write_bytes(b"stump")
    fetch(FILE, MIRRORS, tmp_path, open_url=opener_of({MIRRORS[0] + FILE.name: CONTENT}))
    assert visible(tmp_path) == ["digits.gz"]


def test_a_folder_that_cannot_be_made_is_no_fault_of_the_mirrors(tmp_path: Path) -> None:
    asked: list[str] = []
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError, match=r"cannot write to .*file"):
        fetch(FILE, MIRRORS, tmp_path / "file", open_url=opener_of({}, asked))
    assert not asked


class Server(urllib.request.HTTPSHandler):
    """Answers https requests from a table of (status, location or body), without a network."""

    def __init__(self, answers: dict[str, tuple[int, bytes]]) -> None:
        super().__init__()
        self.answers = answers

    def https_open(self, req):
        status, content = self.answers[req.full_url]
        headers = Message()
        if status == 302:
            headers["Location"] = content.decode()
        response = urllib.response.addinfourl(Body(content), headers, req.full_url, status)
        response.msg = "a message"
        return response


@pytest.mark.parametrize("url", ["http://two.example/a", "ftp://two.example/a"])
def test_a_redirect_out_of_https_is_refused(tmp_path: Path, url: str) -> None:
    server = Server({MIRRORS[0] + FILE.name: (302, url.encode())})
    with pytest.raises(DataError, match="unknown url type"):
        fetch(FILE, MIRRORS[:1], tmp_path, open_url=https_opener(server).open)
    assert visible(tmp_path) == []


def test_a_redirect_within_https_is_followed_and_404_is_a_fault(tmp_path: Path) -> None:
    server = Server(
        {
            MIRRORS[0] + FILE.name: (404, b"nothing here"),
            MIRRORS[1] + FILE.name: (302, b"https://three.example/x"),
            "https://three.example/x": (200, CONTENT),
        }
    )
    path = fetch(FILE, MIRRORS, tmp_path, open_url=https_opener(server).open)
    assert path.read_bytes() == CONTENT


@pytest.mark.parametrize("url", ["http://one.example/a", "file:///etc/hostname", "data:,a"])
def test_other_protocols_are_not_spoken(url: str) -> None:
    with pytest.raises(URLError, match="unknown url type"):
        open_https(url)


TWIN = """
import hashlib, io, pathlib, sys, time
from tinyddpm.data.download import RemoteFile, fetch

content = b"digits" * 1000
folder = pathlib.Path(sys.argv[1])

def open_url(url):
    with (folder / "asked").open("a") as log:
        log.write(url + "\\n")
    time.sleep(0.5)
    return io.BytesIO(content)

file = RemoteFile("a.gz", len(content), hashlib.sha256(content).hexdigest())
path = fetch(file, ["https://one.example/"], folder / "cache", open_url=open_url)
assert path.read_bytes() == content
"""


def test_of_two_processes_one_fetches_and_both_succeed(tmp_path: Path) -> None:
    twins = [subprocess.Popen([sys.executable, "-c", TWIN, str(tmp_path)]) for _ in range(2)]
    assert [twin.wait(timeout=60) for twin in twins] == [0, 0]
    assert (tmp_path / "asked").read_text() == "https://one.example/a.gz\n"
