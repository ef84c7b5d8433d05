"""What the tests of the verbs share."""

import os
import shutil
import sys
from pathlib import Path

import pytest
from fake_mnist import bars, write_mnist

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


@pytest.fixture
def fetched(monkeypatch, tmp_path):
    """Stand-ins for MNIST are downloaded in its place; the names of the files that were."""
    server, names = write_mnist(tmp_path / "server", bars(8), bars(4, seed=1)), []

    def served(file, _mirrors, folder, **_options):
        names.append(file.name)
        folder.mkdir(parents=True, exist_ok=True)
        return Path(shutil.copy(server / file.name.removesuffix(".gz"), folder))

    monkeypatch.setattr("tinyddpm.data.mnist.fetch", served)
    return names
