"""The run directory: one writer, and a checkpoint to go on from whatever happens to the process."""

import errno
import fcntl
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import training_states
from training_states import counted_disk_calls, same, state

import tinyddpm
from tinyddpm.errors import CheckpointError, RunLockedError, StorageError, UsageError
from tinyddpm.training.checkpoint import read
from tinyddpm.training.config import recipe
from tinyddpm.training.overview import overview
from tinyddpm.training.run_directory import RunDirectory, find, newest, next_free

CONFIG = {"data": "glyphs", "batch": 64, "channels": [16, 32]}


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    """A run without a checkpoint."""
    return RunDirectory.create(tmp_path / "runs" / "glyphs-1", CONFIG)


def names(run: RunDirectory) -> list[str]:
    return sorted(path.name for path in run.checkpoints.iterdir())


def damage(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


# A run is made once and found again.


def test_create_then_open(run: RunDirectory) -> None:
    assert {path.name for path in run.path.iterdir()} == {
        "config.json",
        "env.json",
        "checkpoints",
        "samples",
    }
    assert RunDirectory.open(run.path) == run
    assert run.read_config() == CONFIG
    environment = json.loads((run.path / "env.json").read_bytes())
    assert environment["numpy"] == np.__version__
    assert environment["tinyddpm"] == tinyddpm.__version__
    assert environment["cpu_count"] == os.cpu_count()
    assert {"python", "platform"} < environment.keys()


def test_an_empty_folder_may_become_a_run(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    RunDirectory.create(tmp_path / "mine", CONFIG)
    assert RunDirectory.open(tmp_path / "mine").read_config() == CONFIG


def test_an_existing_run_is_refused_with_both_ways_on(run: RunDirectory) -> None:
    with pytest.raises(UsageError, match="taken") as caught:
        RunDirectory.create(run.path, {"other": 1})
    assert f"--resume {run.path}" in caught.value.remedy
    assert "--out" in caught.value.remedy
    assert RunDirectory.open(run.path).read_config() == CONFIG


def test_other_files_are_not_trained_over(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("all my work")
    for path in (tmp_path, tmp_path / "thesis.txt", tmp_path / "thesis.txt" / "run"):
        with pytest.raises(UsageError, match="taken") as caught:
            RunDirectory.create(path, CONFIG)
        assert caught.value.remedy == "another --out"  # there is no run to go on with
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_folder_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*_: Any, **__: Any) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "mkdir", denied)
    with pytest.raises(StorageError, match="runs/a") as caught:
        RunDirectory.create(tmp_path / "runs" / "a", CONFIG)
    assert caught.value.cause == "Permission denied"
    with pytest.raises(StorageError, match="runs"):
        next_free(tmp_path / "runs", "b")


def test_open_says_what_it_looked_for(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no run") as caught:
        RunDirectory.open(tmp_path / "runs" / "mnist-7")
    assert str(tmp_path / "runs" / "mnist-7" / "checkpoints") in caught.value.cause


@pytest.mark.parametrize("text", [b"", b"[]", b"{", b"\xff"])
def test_a_damaged_config(run: RunDirectory, text: bytes) -> None:
    (run.path / "config.json").write_bytes(text)
    with pytest.raises(CheckpointError, match=r"config\.json cannot be read"):
        RunDirectory.open(run.path).read_config()


@pytest.fixture
def hurried() -> Iterator[None]:
    """What takes ten seconds fails, though it wait for another process."""

    def fail(*_: Any) -> None:
        pytest.fail("it waits")

    before = signal.signal(signal.SIGALRM, fail)
    signal.alarm(10)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


LAST = "checkpoints/step-00000002.npz"
DISPENSABLE = {"env.json", "checkpoints/latest"}


@pytest.mark.parametrize("name", ["config.json", "metrics.jsonl", LAST, *sorted(DISPENSABLE)])
@pytest.mark.usefixtures("hurried")
def test_nobody_waits_for_who_writes_into_a_pipe(run: RunDirectory, name: str) -> None:
    run.write_config(recipe("glyphs", "glyphs").to_json())
    run.append_metrics({"step": 1, "loss": 1.0})
    for step in (1, 2):
        run.save_checkpoint(state(step))
    (run.path / name).unlink()
    os.mkfifo(run.path / name)
    assert run.changed_versions() == []
    assert run.latest_checkpoint().checkpoint.step == (1 if name == LAST else 2)
    if name not in DISPENSABLE:
        with pytest.raises(CheckpointError) as caught:
            overview(run.path)
        assert "Not a plain file" in caught.value.cause
    if name == "metrics.jsonl":
        with pytest.raises(OSError, match="Not a plain file"):
            run.trim_metrics(1)


def together(count: int, act: Callable[[], Any]) -> list[Any]:
    """Return what ``count`` threads that begin at once got from ``act``, errors included."""
    barrier = threading.Barrier(count)
    results: list[Any] = []

    def work() -> None:
        barrier.wait()
        try:
            results.append(act())
        except UsageError as error:
            results.append(error)

    threads = [threading.Thread(target=work) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


@pytest.mark.parametrize("empty_folder", [False, True])
def test_of_two_that_create_the_same_run_one_succeeds(tmp_path: Path, empty_folder: bool) -> None:
    for i in range(20):
        path = tmp_path / str(i)
        if empty_folder:
            path.mkdir()
        results = together(2, lambda path=path: RunDirectory.create(path, CONFIG))
        assert sorted(type(result).__name__ for result in results) == ["RunDirectory", "UsageError"]


def test_of_two_that_found_the_folder_empty_one_succeeds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "iterdir", lambda _: iter(()))
    RunDirectory.create(tmp_path / "a", CONFIG)
    with pytest.raises(UsageError, match="taken"):
        RunDirectory.create(tmp_path / "a", CONFIG)


def test_next_free(tmp_path: Path) -> None:
    assert next_free(tmp_path / "runs", "mnist") == tmp_path / "runs" / "mnist-1"
    RunDirectory.create(tmp_path / "runs" / "mnist-1", CONFIG)
    (tmp_path / "runs" / "mnist-2").touch()
    assert next_free(tmp_path / "runs", "mnist") == tmp_path / "runs" / "mnist-3"
    assert next_free(tmp_path / "runs", "glyphs") == tmp_path / "runs" / "glyphs-1"


def test_next_free_gives_no_two_the_same(tmp_path: Path) -> None:
    paths = together(8, lambda: next_free(tmp_path / "runs", "mnist"))
    assert sorted(paths) == [tmp_path / "runs" / f"mnist-{i}" for i in range(1, 9)]


def test_newest_is_the_run_that_saved_last(tmp_path: Path) -> None:
    root = tmp_path / "runs"
    with pytest.raises(CheckpointError, match="no trained run") as caught:
        newest(root)
    assert "tinyddpm train" in caught.value.remedy
    for i, (name, step) in enumerate([("a", 10), ("c", 20), ("b", 5), ("a", 11), ("s/1", 3)]):
        path = root / name
        run = RunDirectory.open(path) if path.exists() else RunDirectory.create(path, CONFIG)
        saved = run.save_checkpoint(state(step))
        os.utime(saved, ns=(i, i))
        RunDirectory.create(root / f"untrained-{i}", CONFIG)
        assert newest(root) == path


def test_a_checkpoint_that_goes_while_one_looks_is_none(run: RunDirectory) -> None:
    run.save_checkpoint(state(1))
    (run.checkpoints / "step-00000002.npz").symlink_to("gone")
    assert newest(run.path.parent) == run.path


# Checkpoints.


def test_save_and_prune(run: RunDirectory) -> None:
    (run.checkpoints / "notes.npz").write_text("keep me")
    (run.checkpoints / "step-best.npz").write_text("and me")
    for step in (1, 99_999_999, 100_000_000, 100_000_001, 100_000_002):
        path = run.save_checkpoint(state(step))
        found = run.latest_checkpoint()
        assert found.path == path
        assert same(found.checkpoint, state(step))
        assert not found.warning
    assert names(run) == [
        "latest",
        "notes.npz",
        "step-100000000.npz",
        "step-100000001.npz",
        "step-100000002.npz",
        "step-best.npz",
    ]
    assert (run.checkpoints / "latest").read_text() == "step-100000002.npz\n"


@pytest.mark.parametrize(("keep", "left"), [(0, 2), (1, 2), (2, 2), (4, 4)])
def test_at_least_two_are_kept(run: RunDirectory, keep: int, left: int) -> None:
    for step in range(6):
        run.save_checkpoint(state(step), keep=keep)
    assert [path.name for path in run.saved()] == [
        f"step-{step:08d}.npz" for step in range(5, 5 - left, -1)
    ]


def test_an_old_one_may_be_removed_by_others_at_the_same_time(
    run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = run.checkpoints / "step-00000000.npz"
    monkeypatch.setattr(RunDirectory, "saved", lambda _: [gone] * 4)
    assert run.save_checkpoint(state(1)).exists()


@pytest.mark.parametrize("fault", ["flip", "cut", "empty", "gone"])
def test_a_bad_latest_falls_back_with_a_warning(run: RunDirectory, fault: str) -> None:
    first, second = run.save_checkpoint(state(1)), run.save_checkpoint(state(2))
    if fault == "flip":
        damage(second)
    elif fault == "gone":
        second.unlink()
    else:
        second.write_bytes(b"" if fault == "empty" else second.read_bytes()[:-100])
    found = run.latest_checkpoint()
    assert found.path == first
    assert same(found.checkpoint, state(1))
    assert str(second) in found.warning
    assert f"{first} is used instead" in found.warning
    assert "\n" not in found.warning


@pytest.mark.parametrize("text", [None, b"", b"step-00000001", b"../../x.npz", b"\xff\x00"])
def test_latest_itself_is_bad(run: RunDirectory, text: bytes | None) -> None:
    run.save_checkpoint(state(1))
    second = run.save_checkpoint(state(2))
    (run.checkpoints / "latest").unlink()
    if text is not None:
        (run.checkpoints / "latest").write_bytes(text)
    found = run.latest_checkpoint()
    assert found.path == second
    assert "latest names no checkpoint" in found.warning


def test_latest_is_followed_to_an_earlier_step(run: RunDirectory) -> None:
    first = run.save_checkpoint(state(1))
    run.save_checkpoint(state(2))
    (run.checkpoints / "latest").write_text(first.name)
    assert run.latest_checkpoint()[0::2] == (first, "")


def test_pruning_after_going_back_keeps_what_was_just_written(run: RunDirectory) -> None:
    for step in (1, 2, 3, 4):
        run.save_checkpoint(state(step), keep=4)
    for path in run.saved()[:2]:
        damage(path)
    assert run.latest_checkpoint().checkpoint.step == 2
    run.save_checkpoint(state(2), keep=2)
    assert not run.latest_checkpoint().warning
    assert same(read(run.saved()[3]), state(1))


def test_no_checkpoint_lists_what_was_tried(run: RunDirectory) -> None:
    with pytest.raises(CheckpointError, match="latest names no checkpoint") as caught:
        run.latest_checkpoint()
    assert caught.value.remedy == f"tinyddpm train --resume {run.path} begins it anew"
    paths = [run.save_checkpoint(state(step)) for step in (1, 2)]
    for path in paths:
        damage(path)
    with pytest.raises(CheckpointError, match="no checkpoint") as caught:
        run.latest_checkpoint()
    assert all(str(path) in caught.value.cause for path in paths)
    assert caught.value.remedy.startswith("another run; without these files ")


def test_resolve_takes_a_run_or_a_file(run: RunDirectory) -> None:
    first, second = run.save_checkpoint(state(1)), run.save_checkpoint(state(2))
    assert find(run.path).path == second
    assert find(first).path == first
    named_like_a_file = run.path.rename(run.path.with_name("glyphs.npz"))
    assert find(named_like_a_file).path.name == second.name
    named_like_a_file.rename(run.path)
    damage(second)
    assert find(run.path).path == first
    assert str(second) in find(run.path).warning
    with pytest.raises(CheckpointError, match=second.name):
        find(second)
    with pytest.raises(UsageError, match="there is no run"):
        find(run.checkpoints)
    with pytest.raises(CheckpointError, match="no checkpoint file"):
        find(run.path / "none.npz")


def test_a_run_whose_checkpoints_are_removed_has_yet_to_begin(run: RunDirectory) -> None:
    for step in (1, 2):
        run.save_checkpoint(state(step))
    with run.lock(), pytest.raises(RunLockedError):
        run.remove_checkpoints()
    assert len(run.saved()) == 2
    run.remove_checkpoints()
    assert names(run) == []


def test_checkpoints_that_cannot_be_listed_are_not_taken_for_none(run: RunDirectory) -> None:
    run.checkpoints.rename(run.path / "moved")
    with pytest.raises(CheckpointError, match="checkpoints cannot be read"):
        run.saved()


def test_versions_that_have_changed_since_a_run_was_begun(run: RunDirectory) -> None:
    assert run.changed_versions() == []
    begun = {"tinyddpm": "0.0", "numpy": "1.0", "python": "2.7"}
    (run.path / "env.json").write_text(json.dumps(begun))
    assert run.changed_versions() == [
        f"tinyddpm 0.0 → {tinyddpm.__version__}",
        f"numpy 1.0 → {np.__version__}",
    ]


# Metrics.


def test_metrics_are_appended_and_trimmed(run: RunDirectory) -> None:
    run.trim_metrics(10)
    assert not run.metrics.exists()
    for step in range(1, 6):
        run.append_metrics({"step": step, "loss": 1 / step})
    with run.metrics.open("ab") as file:
        file.write(b'[1]\n\xff\xfe\n\n{"step": "3"}\n{"step": 3, "lo')
    run.trim_metrics(3)
    run.append_metrics({"step": 4, "loss": 0.5})
    lines = [json.loads(line) for line in run.metrics.read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3, 4]
    assert [line["loss"] for line in lines] == [1.0, 0.5, 1 / 3, 0.5]


@pytest.mark.parametrize("cut", range(1, 20))
def test_a_line_torn_anywhere(run: RunDirectory, cut: int) -> None:
    run.append_metrics({"step": 1, "loss": 1.0})
    run.append_metrics({"step": 2, "loss": "Ω"})
    run.metrics.write_bytes(run.metrics.read_bytes()[:-cut])
    run.trim_metrics(2)
    run.append_metrics({"step": 3})
    steps = [json.loads(line)["step"] for line in run.metrics.read_text().splitlines()]
    assert steps == ([1, 2, 3] if cut == 1 else [1, 3])


def test_metrics_that_are_no_json_are_not_written(run: RunDirectory) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        run.append_metrics({"step": 1, "loss": float("nan")})
    assert not run.metrics.exists()


def test_metrics_that_cannot_be_written(run: RunDirectory) -> None:
    run.metrics.mkdir()
    with pytest.raises(StorageError, match=r"metrics\.jsonl"):
        run.append_metrics({"step": 1})


# The disk fails, or the process is killed.


def failing_disk(patch: pytest.MonkeyPatch, failing_call: int) -> None:
    def fail(call: int) -> None:
        if call == failing_call:
            raise OSError(errno.EIO, "Input/output error")

    for name, function in counted_disk_calls(fail).items():
        patch.setattr(os, name, function)


def test_every_failure_of_the_disk_leaves_a_checkpoint(
    run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    run.save_checkpoint(state(0))
    run.save_checkpoint(state(1))
    causes = []
    for call in range(1, 13):
        before = run.latest_checkpoint().checkpoint.step
        with monkeypatch.context() as patch:
            failing_disk(patch, call)
            try:
                run.save_checkpoint(state(before + 1), keep=2)
            except StorageError as error:
                causes.append(error.cause)
        found = run.latest_checkpoint()
        assert found.checkpoint.step in {before, before + 1}
        assert same(found.checkpoint, state(found.checkpoint.step))
        assert not found.warning
        assert not list(run.checkpoints.glob(".*"))
    # fsync, rename and fsync of the folder, each for the checkpoint and for latest; then pruning,
    # where a failure leaves one file more for the next time.
    assert causes == ["Input/output error"] * 8
    assert found.checkpoint.step == before + 1


@contextmanager
def process(run: RunDirectory, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A process at work in ``run``, past its start; killed in the end."""
    script = Path(training_states.__file__)
    with subprocess.Popen(
        [sys.executable, str(script), str(run.path), *arguments],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(Path(tinyddpm.__file__).parents[1])},
    ) as child:
        try:
            assert child.stdout is not None
            assert child.stdout.readline() == "ready\n"
            yield child
        finally:
            child.kill()


def test_killed_at_every_step_of_a_save(run: RunDirectory) -> None:
    run.save_checkpoint(state(0))
    run.save_checkpoint(state(1))
    endings = []
    for call in itertools.count(1):
        before = run.latest_checkpoint().checkpoint.step
        with process(run, "die", str(call)) as child:
            endings.append(child.wait(20))
        found = run.latest_checkpoint()
        assert found.checkpoint.step in {before, before + 1}
        assert same(found.checkpoint, state(found.checkpoint.step))
        assert not found.warning
        with run.lock():
            assert not list(run.checkpoints.glob(".*"))
        if endings[-1] == 0:
            break
    assert endings[:-1] == [-signal.SIGKILL] * (len(endings) - 1)
    assert len(endings) > 8


def test_killed_at_any_time(run: RunDirectory) -> None:
    run.save_checkpoint(state(0))
    generator = np.random.default_rng(5)
    step = 0
    for wait in generator.uniform(0.02, 0.25, 8):
        with process(run, "save") as child:
            time.sleep(wait)
            os.kill(child.pid, signal.SIGKILL)
        found = run.latest_checkpoint()
        assert not found.warning
        scale = 500 if found.checkpoint.step else 1
        assert same(found.checkpoint, state(found.checkpoint.step, scale))
        assert found.checkpoint.step >= step
        step = found.checkpoint.step
    assert step > 0


def test_the_lock_names_its_holder_and_goes_with_it(run: RunDirectory) -> None:
    run.save_checkpoint(state(0))
    with process(run, "lock") as child:
        with (
            pytest.raises(RunLockedError, match="another process is training") as caught,
            run.lock(),
        ):
            pytest.fail("two processes hold the lock")
        assert f"pid {child.pid} on {socket.gethostname()}" in caught.value.cause
        os.kill(child.pid, signal.SIGKILL)
        child.wait(10)
        with run.lock():
            holder = f"pid {os.getpid()} on {socket.gethostname()}\n"
            assert (run.path / "lock").read_text() == holder
            with pytest.raises(RunLockedError, match=str(os.getpid())), run.lock():
                pytest.fail("one process holds the lock twice")


def test_a_holder_that_has_yet_to_write_its_name_is_one_that_just_began(run: RunDirectory) -> None:
    with (run.path / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(RunLockedError) as caught, run.lock():
            pytest.fail("two hold the lock")
    assert caught.value.cause == "lock is held by a process that just began"


def test_who_only_looks_locks_nobody_out(run: RunDirectory) -> None:
    with run.lock():
        pass
    with (run.path / "lock").open("rb") as file:  # as ``overview`` does
        fcntl.flock(file, fcntl.LOCK_SH)
        threading.Timer(0.05, fcntl.flock, (file, fcntl.LOCK_UN)).start()
        with run.lock():
            pass


def test_an_error_under_the_lock_passes_and_frees_it(run: RunDirectory) -> None:
    with pytest.raises(OSError, match="mine"), run.lock():
        raise OSError("mine")
    with run.lock():
        pass


@pytest.mark.parametrize(
    "name", ["checkpoints/.step-00000003.npz", "samples/.step-00000003.png", ".config.json"]
)
def test_the_lock_removes_what_a_killed_process_left(run: RunDirectory, name: str) -> None:
    leftover = run.path / f"{name}.1234-5678.part"
    leftover.write_bytes(b"half a file")
    with run.lock():
        assert not leftover.exists()


def test_an_empty_folder_of_previews_may_get_lost(run: RunDirectory) -> None:
    """As when a run goes through git, or through what copies files alone."""
    run.samples.rmdir()
    with run.lock():
        assert run.samples.is_dir()


def test_a_lock_in_a_folder_that_is_gone(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="lock"), RunDirectory(tmp_path / "gone").lock():
        pytest.fail("locked nothing")


def test_a_root_that_leads_nowhere_is_an_error_and_not_a_wait(tmp_path):
    (tmp_path / "runs").symlink_to(tmp_path / "gone" / "scratch")
    with pytest.raises(StorageError, match="runs"):
        next_free(tmp_path / "runs", "mnist")


def test_a_run_is_a_run_without_its_config_file(tmp_path):
    run = RunDirectory.create(tmp_path / "run", CONFIG)
    (run.path / "config.json").unlink()
    assert RunDirectory.open(run.path) == run
    with pytest.raises(CheckpointError, match=r"config\.json"):
        run.read_config()
