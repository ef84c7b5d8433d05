"""``train --dry-run``: what it promises is what a run takes, and nothing is left."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tinyddpm.cli.train_plan import Plan, room_needed
from tinyddpm.data.glyphs import glyphs
from tinyddpm.training import forecast as module
from tinyddpm.training.checkpoint import read
from tinyddpm.training.config import RunConfig
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


@pytest.mark.parametrize(
    ("steps", "every", "most"), [(1, 0, 2), (1, 1, 2), (2, 1, 3), (3, 1, 4), (9, 2, 4)]
)
def test_most_is_taken_while_a_checkpoint_is_written(cli, dry, monkeypatch, steps, every, most):
    args = ["--train-steps", steps, "--save-every", every, "--preview-every", 0]
    assert dry(*args)["most"] == most
    counts, fsync = [], os.fsync

    def watched(descriptor):
        counts.append(len(list(Path("runs/glyphs-1/checkpoints").glob("*step-*"))))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", watched)
    assert cli("train", *TINY, *args)[0] == 0
    assert max(counts) == most


def test_of_a_resumed_run_all_its_checkpoints_count(cli, dry):
    args = ["--train-steps", 4, "--save-every", 1, "--preview-every", 0]
    assert cli("train", *TINY, *args)[0] == 0
    found = dry("--resume", "runs/glyphs-1", "--train-steps", 9, "--save-every", 0)
    assert (found["checkpoints"], found["most"]) == (3, 4)


def test_of_a_run_resumed_from_its_only_checkpoint_there_will_be_two(cli, dry):
    assert cli("train", *TINY, "--train-steps", 2, "--preview-every", 0)[0] == 0
    (Path("runs/glyphs-1/checkpoints") / "step-00000000.npz").unlink()
    found = dry("--resume", "runs/glyphs-1", "--train-steps", 4, "--save-every", 0)
    assert (found["checkpoints"], found["most"]) == (2, 2)


def test_checkpoints_that_were_given_up_make_no_room_for_others(cli):
    args = ["--train-steps", 4, "--save-every", 1, "--preview-every", 0]
    assert cli("train", *TINY, *args)[0] == 0
    run = RunDirectory.open(Path("runs/glyphs-1"))
    config = replace(RunConfig.from_json(run.read_config()), train_steps=9)
    size = run.saved()[0].stat().st_size
    for missing, path in enumerate(run.saved(), start=1):  # of the four that there are at once
        plan = Plan(config, glyphs(n=1), run, read(path))
        needed = room_needed(plan, parameters=size // 16, save_every=1)
        assert needed == pytest.approx(missing * size, rel=0.02)


@pytest.mark.parametrize("parameters", [0, 10**6])
def test_the_metrics_that_are_there_need_no_room(cli, parameters):
    """Nor do checkpoints larger than the next ones make room for metrics."""
    assert cli("train", *TINY, "--train-steps", 4, "--preview-every", 0)[0] == 0
    run = RunDirectory.open(Path("runs/glyphs-1"))
    config = replace(RunConfig.from_json(run.read_config()), train_steps=99)
    plan = Plan(config, glyphs(n=1), run, run.latest_checkpoint().checkpoint)
    needed = room_needed(plan, parameters, save_every=0)
    assert needed > 0
    size = run.metrics.stat().st_size
    run.metrics.unlink()
    assert room_needed(plan, parameters, save_every=0) == needed + size > needed


def test_a_run_without_room_is_refused_and_leaves_nothing(cli, dry, monkeypatch, tmp_path):
    def train(free, *args):
        usage = type(shutil.disk_usage("/"))(10**9, 10**9 - free, free)
        with monkeypatch.context() as patch:
            patch.setattr(shutil, "disk_usage", lambda _: usage)
            return cli("train", *TINY, "--save-every", 1, "--preview-every", 0, *args)

    found = dry("--train-steps", 3, "--save-every", 1)
    room = 4 * found["checkpoint"] + found["metrics"]
    code, out, err = train(room - 1, "--train-steps", 3)
    assert (code, out) == (6, "")
    assert "too little disk space for the run in runs\ncause: its checkpoints and" in err
    assert "metrics need 11" in err
    assert not list(tmp_path.iterdir())
    assert train(room, "--train-steps", 3)[0] == 0
    further = ["--resume", "runs/glyphs-1", "--train-steps", 4]
    assert train(found["checkpoint"] // 2, *further)[0] == 6  # one more, before one goes
    assert "warning" in train(found["checkpoint"] // 2, *further, "--dry-run")[2]
    assert train(found["checkpoint"] * 2, *further)[0] == 0


def test_a_sampler_of_times_is_part_of_the_checkpoint(dry):
    chain = ["--variance", "learned", "--times", "second-moment"]
    long, short = (dry(*chain, "--diffusion-steps", T)["checkpoint"] for T in (2000, 1000))
    assert long - short >= 1000 * 10 * 8  # ten losses for each t


def test_the_first_step_is_not_counted(cli, dry, monkeypatch):
    times = {1: 100.0, 2: 3.0, 3: 1.0, 4: 2.0}
    monkeypatch.setattr(module, "_timed", lambda _, step: times[step])
    found = dry("--train-steps", 1000, "--preview-every", 0)
    assert found["step_seconds"] == [3.0, 1.0, 2.0]
    assert found["seconds"] == 2000.0
    assert "from 3 steps of 1.000 to 3.000 s" in cli("train", "--dry-run", *TINY)[1]
    monkeypatch.setattr(module, "_timed_preview", lambda *_: 7.0)
    assert dry("--train-steps", 1000, "--preview-every", 300)["seconds"] == 2028.0
    assert dry("--train-steps", 900, "--preview-every", 300)["seconds"] == 1821.0


def test_real_steps_are_timed(dry):
    found = dry()
    assert len(found["step_seconds"]) == 3
    assert min(found["step_seconds"]) > 0
    assert found["preview_seconds"] > 0


@pytest.mark.parametrize(("T", "expected"), [(1000, 3.0 + 50 * 0.25), (2, 3.0 + 2 * 0.25)])
def test_of_a_preview_what_comes_once_counts_once(dry, monkeypatch, T, expected):
    """And what comes in the first alone, as the compiler does, is not of it."""
    now, walked = [0.0], []

    def sample(_model, _n, *, steps, **_):
        now[0] += (3.0 if walked else 60.0) + 0.25 * steps
        walked.append(steps)

    monkeypatch.setattr(module, "_timed", lambda *_: 1.0)
    monkeypatch.setattr(module.TrainedModel, "sample", sample)
    monkeypatch.setattr(module.time, "perf_counter", lambda: now[0])
    assert dry("--diffusion-steps", T)["preview_seconds"] == pytest.approx(expected)


def test_of_a_resumed_run_only_the_rest_counts(cli, dry, tmp_path):
    assert cli("train", *TINY, "--train-steps", 4, "--preview-every", 2)[0] == 0
    before = contents(tmp_path)
    args = ["--resume", "runs/glyphs-1", "--train-steps", 9, "--preview-every", 2]
    found = dry(*args)
    assert (found["steps"], found["previews"]) == (5, 3)  # of steps 6 and 8, and of the end
    out = cli("train", "--dry-run", *TINY, *args)[1]
    assert "5 of 4 images" in out
    assert "4 steps and a preview" in out
    assert "and 3 previews of " in out
    assert dry("--resume", "runs/glyphs-1", "--preview-every", 3)["previews"] == 0
    assert "preview" not in cli("train", "--dry-run", *TINY, *args, "--preview-every", 0)[1]
    assert contents(tmp_path) == before


def test_too_small_a_disk_is_said(cli, monkeypatch):
    usage = type(shutil.disk_usage("/"))(10**6, 10**6 - 1000, 1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    code, out, err = cli("train", "--dry-run", *TINY)
    assert code == 0
    assert "0.0 MiB are free" in out
    assert "warning: " in err


def test_the_room_is_that_where_the_run_lies(cli, dry, monkeypatch, tmp_path):
    """Which may be another disk than that of the present folder."""
    args = ["--train-steps", 1, "--preview-every", 0]
    assert cli("train", *TINY, *args, "--out", "there/run")[0] == 0
    asked, disk_usage = [], shutil.disk_usage

    def spying(folder):
        asked.append(folder)
        return disk_usage(folder)

    monkeypatch.setattr(shutil, "disk_usage", spying)
    dry("--resume", "there/run", "--train-steps", 2, "--preview-every", 0)
    assert asked == [tmp_path / "there/run"]
    dry(*args, "--out", "there/another/one")
    assert asked[1:] == [tmp_path / "there"]
    assert cli("train", "--resume", "there/run", "--train-steps", 2)[0] == 0
    assert asked[2:] == [tmp_path / "there/run"]


@pytest.fixture
def no_steps(monkeypatch):
    """Doing a step would be a mistake."""

    def refuse(*_):
        raise AssertionError("a step was done")

    monkeypatch.setattr(module, "_timed", refuse)
    monkeypatch.setattr(module, "_timed_preview", refuse)


@pytest.mark.usefixtures("no_steps")
@pytest.mark.parametrize("absurd", [["--batch", 10**6, "--shard", 10**6], ["--batch", 2**31 - 1]])
def test_what_does_not_fit_is_answered_without_a_step(cli, dry, absurd, monkeypatch):
    monkeypatch.setattr(module, "free_memory", lambda: 2**33)
    found = dry(*absurd)
    assert found["least_memory"] > found["free_memory"] > 0
    assert (found["peak_memory"], found["seconds"], found["step_seconds"]) == (None, None, [])
    assert found["checkpoint"] >= 16 * found["parameters"]
    code, out, err = cli("train", "--dry-run", *TINY, *absurd)
    assert code == 0
    assert "no step was done" in out
    assert "warning: a step needs at least " in err
    assert "a smaller --batch or --shard" in err


def test_it_is_held_against_the_memory_that_is_free(dry, monkeypatch):
    monkeypatch.setattr(module, "_timed", lambda *_: 1.0)
    monkeypatch.setattr(module, "_timed_preview", lambda *_: 1.0)
    least = dry()["least_memory"]
    for free, total, fits in (
        (least, 0, True),
        (least - 1, 2 * least, False),
        (None, least, True),  # where the system does not tell what is free
        (None, least - 1, False),
    ):
        monkeypatch.setattr(module, "free_memory", lambda free=free: free)
        monkeypatch.setattr(module, "total_memory", lambda total=total: total)
        assert bool(dry()["step_seconds"]) is fits


def test_of_a_long_step_a_part_is_timed(cli, dry, monkeypatch):
    timed = []

    def remember(trainer, _step):
        timed.append(trainer.config.batch)
        return 0.5

    monkeypatch.setattr(module, "_timed", remember)
    monkeypatch.setattr(module, "peak_memory", lambda: 2**20)
    steps = ["--train-steps", 10, "--preview-every", 0]
    found = dry("--batch", 1000, *steps)
    assert set(timed) == {found["timed_images"]} == {4 * 2}
    assert found["seconds"] == 0.5 * 1000 / 8 * 10
    assert found["peak_memory"] == 2**20 + 128 * 992
    assert dry("--batch", 7, *steps)["seconds"] == 0.5 * 10
    assert "from 3 steps with 8 images of" in cli("train", "--dry-run", *TINY, "--batch", 1000)[1]


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
