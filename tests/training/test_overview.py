"""Runs seen from outside: their step, their age, and who is taken for one who trains them."""

import fcntl
import os
import time

import pytest
from test_bit_exactness import CONFIG
from training_states import state

from tinyddpm.training.overview import folders, overview
from tinyddpm.training.run_directory import RunDirectory


@pytest.fixture
def run(tmp_path):
    """A run that was saved at step 2, some while ago."""
    run = RunDirectory.create(tmp_path / "runs" / "a", CONFIG.to_json())
    run.save_checkpoint(state(2))
    run.append_metrics({"step": 2, "loss": 0.5})
    written(run, ago=1000)
    return run


def written(run, name="**/*", *, ago):
    for path in run.path.glob(name):
        os.utime(path, (time.time() - ago, time.time() - ago))


def test_of_a_run_at_work_the_last_step_done_counts_and_of_others_the_last_saved(run):
    run.append_metrics({"step": 5, "loss": 0.5})
    with run.lock():
        assert (overview(run.path).state, overview(run.path).step) == ("running", 5)
    assert (overview(run.path).state, overview(run.path).step) == ("stopped", 2)
    run.metrics.write_text('{"step": 1, "loss": 0.5}\n')
    with run.lock():
        assert overview(run.path).step == 2


@pytest.mark.parametrize(
    "name", ["metrics.jsonl", "config.json", "checkpoints/step-00000002.npz"], ids=str
)
def test_the_age_is_that_of_what_was_written_last(run, name):
    assert overview(run.path).age == pytest.approx(1000, abs=10)
    written(run, name, ago=100)
    assert overview(run.path).age == pytest.approx(100, abs=10)
    written(run, name, ago=-100)  # by a clock that is fast
    assert overview(run.path).age == 0


def test_two_may_look_at_a_run_at_once(run):
    with run.lock():
        pass
    with (run.path / "lock").open("rb") as other:
        fcntl.flock(other, fcntl.LOCK_SH)
        assert overview(run.path).state == "stopped"


def test_hidden_folders_are_no_runs(tmp_path):
    for name in ("b", ".c", "several/d", "several/.e"):
        RunDirectory.create(tmp_path / name, CONFIG.to_json())
    assert folders(tmp_path) == [tmp_path / "b", tmp_path / "several" / "d"]
