"""Fetching a file whose size and SHA-256 are known, from whichever mirror has it.

Https only, redirects included; the bytes are checked before the file gets its name, so what lies
in the folder is either absent or right; and a lock lets one of several processes do the fetching.
"""

from __future__ import annotations

import fcntl
import hashlib
import urllib.request as web
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import BinaryIO, Protocol

from tinyddpm.errors import DataError, StorageError
from tinyddpm.files import remove_leftovers, write_atomically

_TIMEOUT_S = 30.0
_BLOCK = 2**18


@dataclass(frozen=True)
class RemoteFile:
    """A file as it must be: its name on the mirrors and on disk, its bytes and their SHA-256."""

    name: str
    size: int
    sha256: str


class Response(Protocol):
    """What is used of an HTTP response."""

    def read(self, amount: int, /) -> bytes:
        """Return up to ``amount`` bytes, none at the end."""

    def close(self) -> None:
        """Close the connection."""


OpenUrl = Callable[[str], Response]
Tell = Callable[[RemoteFile, str], None]  # called with a file and the mirror that is asked for it


def tell_nobody(_file: RemoteFile, _mirror: str) -> None:
    """Fetch in silence."""


class _MirrorFailedError(Exception):
    """This mirror did not give the file; the next one may."""


def https_opener(handler: web.HTTPSHandler) -> web.OpenerDirector:
    """Return an opener that speaks https and nothing else, so no redirect can lead out of it."""
    opener = web.OpenerDirector()
    for part in (
        web.ProxyHandler(),
        web.UnknownHandler(),
        web.HTTPDefaultErrorHandler(),
        web.HTTPRedirectHandler(),
        web.HTTPErrorProcessor(),
        handler,
    ):
        opener.add_handler(part)
    return opener


def open_https(url: str) -> Response:
    """Open ``url``; certificates are checked, and each wait ends after 30 s.

    Raises:
        OSError: no answer, an answer that is an error, or another protocol than https.
    """
    response: Response = https_opener(web.HTTPSHandler()).open(url, timeout=_TIMEOUT_S)
    return response


def fetch(
    file: RemoteFile,
    mirrors: Sequence[str],
    folder: Path,
    *,
    tell: Tell = tell_nobody,
    open_url: OpenUrl = open_https,
) -> Path:
    """Return ``folder / file.name``, fetched from the first of ``mirrors`` that has it right.

    The folder is made if need be. A mirror is the start of a URL, up to the file's name. A file
    that is already there is not fetched.

    Raises:
        DataError: no mirror gave the file; the cause lists what each one did.
        StorageError: the folder cannot be written to.
    """
    path = folder / file.name
    failures = []
    with _locked(folder):
        if path.is_file():  # another process held the lock and has fetched it
            return path
        remove_leftovers(folder)
        for mirror in mirrors:
            tell(file, mirror)
            try:
                _fetch_from(mirror + file.name, file, path, open_url)
            except _MirrorFailedError as failure:
                failures.append(f"{mirror}: {failure}")
            else:
                return path
    raise DataError(
        f"cannot download {file.name}",
        cause="; ".join(failures),
        remedy=f"put {file.name} ({file.size} bytes) into {folder}",
    )


def _fetch_from(url: str, file: RemoteFile, path: Path, open_url: OpenUrl) -> None:
    def copy(out: BinaryIO) -> None:
        digest, size = hashlib.sha256(), 0
        for block in _blocks(url, open_url, limit=file.size + 1):
            out.write(block)
            digest.update(block)
            size += len(block)
        if size != file.size:
            found = "more" if size > file.size else str(size)
            raise _MirrorFailedError(f"expected {file.size} bytes, got {found}")
        if digest.hexdigest() != file.sha256:
            raise _MirrorFailedError(f"SHA-256 is {digest.hexdigest()}, not {file.sha256}")

    write_atomically(path, copy)


def _blocks(url: str, open_url: OpenUrl, limit: int) -> Iterator[bytes]:
    """Yield at most ``limit`` bytes of ``url``. Only errors of the network become the mirror's."""
    try:
        with closing(open_url(url)) as response:
            while limit > 0 and (block := response.read(min(_BLOCK, limit))):
                limit -= len(block)
                yield block
    except (OSError, HTTPException) as error:
        raise _MirrorFailedError(str(error) or type(error).__name__) from error


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the folder's lock, waiting for it; the kernel frees it if this process is killed."""
    with ExitStack() as opened:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock = opened.enter_context((folder / ".lock").open("wb"))
            fcntl.flock(lock, fcntl.LOCK_EX)
        except OSError as error:
            raise StorageError(
                f"cannot write to {folder}",
                cause=error.strerror or str(error),
                remedy="set XDG_CACHE_HOME to a folder that can be written to",
            ) from error
        yield
