"""``tinyddpm completion``: the scripts, and what they get to complete with."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.shell_completion import BashComplete

from tinyddpm.cli.main import commands
from tinyddpm.data import LOADERS
from tinyddpm.nn.config import PRESETS

PROGRAM = "#!{python}\nfrom tinyddpm.__main__ import main\n\nmain()\n"


@pytest.fixture
def complete(monkeypatch, tmp_path):
    """The completions of the last word of a line, as the shell's script is told them."""
    monkeypatch.chdir(tmp_path)
    for name in ("mnist-1", "mnist-2", "other"):
        Path("runs", name, "checkpoints").mkdir(parents=True)
    Path("runs/no-run").mkdir()

    def run(line):
        words = line.split(" ")
        monkeypatch.setenv("COMP_WORDS", line)
        monkeypatch.setenv("COMP_CWORD", str(len(words) - 1))
        return BashComplete(commands, {}, "tinyddpm", "_TINYDDPM_COMPLETE").complete().split()

    return run


def plain(values):
    return [f"plain,{value}" for value in values]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_script_for_each_shell(cli, shell):
    code, out, err = cli("completion", shell)
    assert (code, err) == (0, "")
    assert f"_TINYDDPM_COMPLETE={shell}_complete" in out
    assert "_tinyddpm_completion" in out
    if shutil.which(shell):
        subprocess.run([shell, "-n"], input=out.encode(), check=True)


def test_other_shells_are_refused(cli):
    code, _, err = cli("completion", "tcsh")
    assert code == 2
    assert "fish" in err


@pytest.mark.parametrize(
    "line",
    [
        "tinyddpm sample runs/m",
        "tinyddpm evaluate runs/m",
        "tinyddpm evaluate runs/other --against runs/m",
        "tinyddpm train --resume runs/m",
        "tinyddpm runs compare runs/m",
        "tinyddpm runs compare runs/other runs/m",
    ],
)
def test_runs(complete, line):
    assert complete(line) == plain(["runs/mnist-1", "runs/mnist-2"])


def test_files_where_no_run_is_meant(complete):
    assert complete("tinyddpm sample check") == ["file,check"]


def test_presets_and_data_sets(complete):
    assert complete("tinyddpm train --preset ") == plain(PRESETS)
    assert complete("tinyddpm train --preset mnist-") == plain(["mnist-1.7m"])
    assert complete("tinyddpm train --data ") == plain(LOADERS)
    assert complete("tinyddpm train --data pict") == ["file,pict"]
    assert complete("tinyddpm train --schedule l") == plain(["linear", "log-snr-linear"])


def test_verbs_and_options(complete):
    assert complete("tinyddpm comp") == plain(["completion"])
    assert complete("tinyddpm runs comp") == plain(["compare"])
    assert complete("tinyddpm train --dry") == plain(["--dry-run"])
    assert complete("tinyddpm train --config no.toml --dry") == plain(["--dry-run"])


@pytest.mark.skipif("not shutil.which('bash')")
def test_bash_completes(cli, tmp_path):
    Path("runs/mnist-7/checkpoints").mkdir(parents=True)
    program = tmp_path / "bin" / "tinyddpm"
    program.parent.mkdir()
    program.write_text(PROGRAM.format(python=sys.executable))
    program.chmod(0o755)
    script = cli("completion", "bash")[1]
    typed = "COMP_WORDS=(tinyddpm sample runs/m); COMP_CWORD=2; _tinyddpm_completion tinyddpm"
    done = subprocess.run(
        ["bash", "--norc", "-c", f'{script}\n{typed}\necho "${{COMPREPLY[@]}}"'],
        env={**os.environ, "PATH": f"{program.parent}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "runs/mnist-7\n", done.stderr
