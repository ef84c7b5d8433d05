"""Where results go: asked before the work, lest it be done for nothing."""

from __future__ import annotations

import os
from pathlib import Path

from tinyddpm.errors import StorageError, UsageError


def check_folder_of(path: Path) -> None:
    """Refuse a file or folder that could not be written as ``path``.

    Raises:
        UsageError: the folder that it is to lie in is not there.
        StorageError: it cannot be written to, or what is at ``path`` is no file and no folder.
    """
    folder = path.absolute().parent
    if not folder.is_dir():
        raise UsageError(f"there is no folder {folder} to write {path.name} in")
    if not os.access(folder, os.W_OK):
        raise StorageError(f"the folder {folder} cannot be written to")
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise StorageError(f"{path} is neither a file nor a folder, and is not replaced")
