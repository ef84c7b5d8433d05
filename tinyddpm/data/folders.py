"""Where data sets lie on this machine."""

from __future__ import annotations

import os
from pathlib import Path

from tinyddpm.errors import DataError


def data_folders(name: str) -> list[Path]:
    """Return the folders in which data set ``name`` is looked for, in order; the last is the cache.

    They are ``$TINYDDPM_DATA/<name>``, where that variable is set, and ``cache_folder(name)``.
    """
    own = os.environ.get("TINYDDPM_DATA")
    folders = [Path(own).expanduser() / name] if own else []
    return [*folders, cache_folder(name)]


def cache_folder(name: str) -> Path:
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
