"""The README is executed: its blocks, its names, its pictures."""

import importlib
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tinyddpm.cli.main import commands

REPOSITORY = Path(__file__).resolve().parents[2]
README = (REPOSITORY / "README.md").read_text()
BLOCKS = [block.strip().splitlines() for block in re.findall(r"```sh\n(.*?)```", README, re.S)]
COMMANDS = [
    shlex.split(line, comments=True)[1:]
    for block in BLOCKS
    for line in block
    if line.startswith("tinyddpm ")
]
FUNCTIONS = sorted(set(re.findall(r"`(tinyddpm(?:\.\w+)+)`", README)))


def test_the_second_block_is_what_ci_runs():
    ci = (REPOSITORY / ".ci" / "run").read_text().splitlines()
    setup, test = BLOCKS[1]
    assert test == "python -m pytest"
    assert test in ci
    assert setup.replace("pip install", "pip install --quiet") in ci


@pytest.mark.parametrize("args", COMMANDS, ids=" ".join)
def test_every_command_shown_is_one_that_parses(args):
    command = commands.commands[args[0]]
    command.make_context(args[0], args[1:])


def test_the_first_block_runs_and_then_the_python(tmp_path):
    """The block's own commands, the training cut short; its run is what the Python loads."""
    lines = [line for line in BLOCKS[0] if line.startswith("tinyddpm ")]
    assert [shlex.split(line)[1] for line in lines] == ["train", "sample"]
    for line, short in zip(lines, (["--train-steps", "2"], ["--steps", "2"]), strict=True):
        subprocess.run(
            [sys.executable, "-m", "tinyddpm", *shlex.split(line, comments=True)[1:], *short],
            cwd=tmp_path,
            check=True,
            capture_output=True,
        )
    assert list(tmp_path.glob("*.png"))
    (block,) = re.findall(r"```python\n(.*?)```", README, re.S)
    (line,) = re.findall(r"`(with model\.[^`]*)`", README)
    checks = "assert images.shape == (16, 16, 16, 1) and images.dtype == 'uint8'"
    subprocess.run([sys.executable, "-c", f"{block}{checks}\n{line}"], cwd=tmp_path, check=True)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_name_in_the_readme_exists(name):
    parts = name.split(".")
    for cut in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:cut]))
        except ModuleNotFoundError:
            continue
        for attribute in parts[cut:]:
            found = getattr(found, attribute)
        return
    pytest.fail(name)


def test_the_table_of_equations_is_long_enough():
    rows = [line for line in README.splitlines() if line.startswith("| ") and "`tinyddpm." in line]
    assert len(rows) >= 20


@pytest.mark.parametrize("path", sorted(set(re.findall(r"!\[[^\]]*\]\(([^)]+)\)", README))))
def test_pictures_are_there(path):
    assert (REPOSITORY / path).is_file()


def test_folders_named_are_there():
    for name in re.findall(r"^(\S+/)  ", README, re.M):
        assert (REPOSITORY / "tinyddpm" / name).is_dir() or (REPOSITORY / name).is_dir(), name
