"""What could not be written is known before the work, in the same words everywhere."""

import os

import pytest

from tinyddpm.cli.main import commands
from tinyddpm.errors import StorageError, UsageError
from tinyddpm.output_folder import check_folder_of


def test_what_can_be_written_is_let_through(tmp_path):
    (tmp_path / "old.png").write_text("to be replaced")
    for name in ("new.png", "old.png", "."):
        check_folder_of(tmp_path / name)
    assert (tmp_path / "old.png").read_text() == "to be replaced"


@pytest.mark.parametrize("folder", ["no", "no/deeper", "file"])
def test_a_folder_that_is_not_there_is_named(tmp_path, folder):
    (tmp_path / "file").touch()
    path = tmp_path / folder / "x.png"
    with pytest.raises(UsageError, match=rf"no folder {path.parent} to write x\.png in"):
        check_folder_of(path)


def test_a_folder_that_cannot_be_written_to_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK or path != tmp_path)
    with pytest.raises(StorageError, match=f"folder {tmp_path} cannot be written to"):
        check_folder_of(tmp_path / "x.png")


def test_what_is_no_file_is_not_replaced(tmp_path):
    os.mkfifo(tmp_path / "x.png")
    with pytest.raises(StorageError, match=r"x\.png is neither a file nor a folder"):
        check_folder_of(tmp_path / "x.png")


@pytest.mark.parametrize(
    "args",
    [
        ["explain", "cosine", "--figure", "no/x.png"],
        ["evaluate", "--nll", "--plot", "no/x.png"],
        ["evaluate", "--samples", "9", "--sheet", "no/x.png"],
        ["evaluate", "--fit-classifier", "--out", "no/x.npz"],
        ["sample", "--out", "no/x.png"],
    ],
)
def test_every_verb_says_so(args, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=f"there is no folder {tmp_path}/no to write x"):
        commands.main(args, standalone_mode=False)
