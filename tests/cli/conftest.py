"""What the tests of the verbs share."""

import os
import sys

import pytest

from tinyddpm.cli.main import main


@pytest.fixture
def command(monkeypatch, capsys):
    """Run one command: its exit code, stdout and stderr."""

    def run(*args):
        monkeypatch.setattr(sys, "argv", ["tinyddpm", *map(str, args)])
        with pytest.raises(SystemExit) as stopped:
            main()
        out, err = capsys.readouterr()
        return stopped.value.code or 0, out, err

    return run


@pytest.fixture
def cli(command, monkeypatch, tmp_path):
    """The same in an empty folder, with no variables set and nothing in the cache."""
    monkeypatch.chdir(tmp_path)
    for name in os.environ:
        if name.startswith("TINYDDPM_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return command
