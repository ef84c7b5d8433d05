"""``train --dry-run``: what it promises is what a run takes, and nothing is left."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tinyddpm.training import estimate as module
from tinyddpm.training.run_directory import RunDirectory

TINY = ["--batch", "4", "--shard", "2", "--threads", "1", "--device", "cpu"]


@pytest.fixture
def dry(cli):
    """What ``train --dry-run --json`` says."""

    def run(*args):
        code, out, err = cli("train", "--dry-run", "--json", *TINY, *args)
        assert code == 0, err
        return json.loads(out)

    return run


def contents(folder):
    return {path: path.is_file() and path.read_bytes() for path in folder.rglob("*")}


def test_it_prints_what_a_user_asks_and_leaves_nothing(cli, tmp_path):
    code, out, _ = cli("train", "--dry-run", "--out", "a/b", *TINY)
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()] == [
        *("parameters", "steps", "memory", "disk", "time")
    ]
    assert "176,849" in out
    assert "1,200 of 4 images" in out
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("steps", "every"), [(1, 0), (7, 0), (1, 1), (2, 1), (3, 1), (7, 2), (6, 3), (4, 3), (3, 5)]
)
def test_the_disk_space_is_what_a_run_takes(cli, dry, steps, every):
    args = ["--train-steps", steps, "--save-every", every, "--preview-every", 0]
    promised = dry(*args)
    assert cli("train", *TINY, *args)[0] == 0
    run = RunDirectory.open(Path("runs/glyphs-1"))
    assert len(run.saved()) == promised["checkpoints"]
    sizes = [path.stat().st_size for path in run.saved()]
    assert promised["checkpoint"] == pytest.approx(max(sizes), rel=0.01)
    assert promised["disk"] == pytest.approx(sum(sizes) + promised["metrics"], rel=0.01)
    assert promised["metrics"] == pytest.approx(run.metrics.stat().st_size, rel=0.4)


def test_a_sampler_of_times_is_part_of_the_checkpoint(dry):
    chain = ["--variance", "learned", "--times", "second-moment"]
    long, short = (dry(*chain, "--diffusion-steps", T)["checkpoint"] for T in (2000, 1000))
    assert long - short >= 1000 * 10 * 8  # ten losses for each t


def test_the_first_step_is_not_counted(dry, monkeypatch):
    times = {1: 100.0, 2: 3.0, 3: 1.0, 4: 2.0}
    monkeypatch.setattr(module, "_timed", lambda _, step: times[step])
    found = dry("--train-steps", 1000, "--preview-every", 0)
    assert found["step_seconds"] == [3.0, 1.0, 2.0]
    assert found["seconds"] == 2000.0
    monkeypatch.setattr(module, "_timed_preview", lambda *_: 7.0)
    assert dry("--train-steps", 1000, "--preview-every", 300)["seconds"] == 2021.0
    assert dry("--train-steps", 900, "--preview-every", 300)["seconds"] == 1821.0


def test_real_steps_are_timed(dry):
    found = dry()
    assert len(found["step_seconds"]) == 3
    assert min(found["step_seconds"]) > 0
    assert found["preview_seconds"] > 0


def test_of_a_resumed_run_only_the_rest_counts(cli, dry, tmp_path):
    assert cli("train", *TINY, "--train-steps", 4, "--preview-every", 2)[0] == 0
    before = contents(tmp_path)
    args = ["--resume", "runs/glyphs-1", "--train-steps", 9, "--preview-every", 2]
    found = dry(*args)
    assert (found["steps"], found["previews"]) == (5, 2)
    assert contents(tmp_path) == before


def test_too_small_a_disk_is_said(cli, monkeypatch):
    usage = type(shutil.disk_usage("/"))(10**6, 10**6 - 1000, 1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    code, out, err = cli("train", "--dry-run", *TINY)
    assert code == 0
    assert "0.0 MiB are free" in out
    assert "warning: " in err


MEASURED = """
import sys
from tinyddpm.cli.main import main
from tinyddpm.machine import peak_memory
try:
    main()
finally:
    print(peak_memory())
"""


@pytest.mark.skipif("not Path('/proc/self/status').exists()")
def test_the_memory_is_that_of_a_real_run(tmp_path):
    def peak(*args):
        command = [sys.executable, "-c", MEASURED, "train", "--device", "cpu", "--threads", "2"]
        done = subprocess.run([*command, *args], cwd=tmp_path, check=True, capture_output=True)
        return done.stdout.decode()

    promised = json.loads(peak("--dry-run", "--json").rpartition("}")[0] + "}")["peak_memory"]
    taken = int(peak("--train-steps", "12", "--preview-every", "6").split()[-1])
    assert promised == pytest.approx(taken, rel=0.2)
    assert promised > 60 * 2**20  # an interpreter with NumPy alone has less than half of this
