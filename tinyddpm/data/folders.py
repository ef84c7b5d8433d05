"""Where data sets lie on this machine."""

from __future__ import annotations

import os
from pathlib import Path

from tinyddpm.errors import DataError


def data_folders(name: str) -> list[Path]:
    """Return where data set ``name`` is looked for, in order; downloads go into the last.

    They are ``$TINYDDPM_DATA/<name>``, where that variable is set, and the cache. Where there can
    be no cache, for want of a home folder, that variable is enough.

    Raises:
        DataError: there is no such folder, or the variable leads to the home of nobody.
    """
    own = os.environ.get("TINYDDPM_DATA")
    if not own:
        return [_cache_folder(name)]
    try:
        folder = Path(own).expanduser() / name
    except RuntimeError as error:
        raise DataError(
            f"TINYDDPM_DATA={own} is not a folder", cause=str(error), remedy="a path without ~"
        ) from error
    try:
        return [folder, _cache_folder(name)]
    except DataError:
        return [folder]


def _cache_folder(name: str) -> Path:
    """Return ``$XDG_CACHE_HOME/tinyddpm/<name>``, or the same under ``~/.cache``.

    Raises:
        DataError: there is neither that variable nor a home folder.
    """
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    try:
        return Path(cache).expanduser() / "tinyddpm" / name
    except RuntimeError as error:
        raise DataError(
            "there is no folder to keep data in",
            cause=str(error),
            remedy="set TINYDDPM_DATA or XDG_CACHE_HOME, or give --data-dir",
        ) from error
