"""Processes: how errors come out of them, what they cost, and what they leave behind."""

import gc
import json
import os
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pytest

from tinyddpm.errors import TinyDDPMError
from tinyddpm.machine import worker_pids
from tinyddpm.parallel import Workers
from tinyddpm.training.lock import exclusive_lock

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="processes are for Linux"
)


class UnlikeItsArguments(Exception):
    def __init__(self, one, two):
        super().__init__(f"{one} and {two}")


@pytest.mark.parametrize("error", [UnlikeItsArguments(1, 2), ValueError(lambda: 1 / 0)])
def test_an_exception_that_cannot_be_sent_is_told_in_words(error):
    def work(_):
        raise error

    with Workers(2) as workers, pytest.raises(RuntimeError) as raised:
        workers.crew(work, processes=True).run("ab", lambda _index, _none: None)
    assert str(raised.value) == f"{type(error).__name__}: {error}"
    assert "raise error" in raised.value.__notes__[0]  # where it came from


def test_an_exception_says_where_it_was_raised():
    def divide(number):
        return 1 / number

    with Workers(2) as workers, pytest.raises(ZeroDivisionError) as raised:
        workers.crew(divide, processes=True).run([0, 1], lambda _index, _none: None)
    assert "in divide" in raised.value.__notes__[0]


UNSENDABLE = """
from tinyddpm.parallel import Workers
with Workers(2) as workers:
    workers.crew(lambda _: lambda: None, processes=True).run("ab", print)
"""


def test_a_result_that_cannot_be_sent_ends_its_process_which_says_why():
    done = subprocess.run(
        [sys.executable, "-c", UNSENDABLE], capture_output=True, text=True, check=False
    )
    assert "Can't pickle" in done.stderr
    assert "a worker process was ended in the middle of its work\ncause: exit 1 " in done.stderr


def test_no_more_processes_are_begun_than_there_are_tasks():
    pids = set()
    with Workers(50) as workers:
        crew = workers.crew(lambda _: os.getpid(), processes=True)
        for tasks in ("", "a", "abc"):
            crew.run(tasks, lambda _, pid: pids.add(pid))
        assert worker_pids == pids - {os.getpid()}
    assert len(pids) == 1 + 3
    assert not worker_pids


def test_a_machine_that_begins_no_process_says_so(monkeypatch):
    def refuse():
        raise BlockingIOError("Resource temporarily unavailable")

    monkeypatch.setattr(os, "fork", refuse)
    with Workers(2) as workers, pytest.raises(TinyDDPMError, match="no worker process") as raised:
        workers.crew(len, processes=True).run("ab", lambda _index, _none: None)
    assert raised.value.remedy == "--threads 1"


@pytest.mark.parametrize("when", ["at work", "idle"])
def test_a_worker_that_was_killed_is_told(when):
    def work(task):
        if task == "end":
            os.kill(os.getpid(), signal.SIGKILL)
        return os.getpid()

    with Workers(2) as workers:
        crew, pids = workers.crew(work, processes=True), []
        crew.run("ab", lambda _, pid: pids.append(pid))
        if when == "idle":
            os.kill(pids[1], signal.SIGKILL)
        with pytest.raises(TinyDDPMError, match="worker process was ended") as raised:
            crew.run(["a", "end"] if when == "at work" else "ab", lambda _index, _pid: None)
        assert raised.value.cause.startswith("exit -9")
        crew.run("ab", lambda _, pid: pids.append(pid))
    assert len(set(pids)) == 4
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids), "one was not waited for"


def test_each_is_killed_but_once(monkeypatch):
    """When it has ended, its number may be that of another process."""
    killed, kill = [], os.kill

    def killing(pid, number):
        killed.append(pid)
        kill(pid, number)

    monkeypatch.setattr(os, "kill", killing)
    with Workers(2) as workers:
        crew = workers.crew(lambda number: number and kill(os.getpid(), number), processes=True)
        with pytest.raises(TinyDDPMError, match="worker process was ended"):
            crew.run([0, signal.SIGKILL], lambda _index, _none: None)
    assert len(killed) == len(set(killed)) == 2


def test_where_nobody_is_told_of_their_end_they_end_all_the_same():
    def stop(_index, _none):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        with Workers(2) as workers:
            crew = workers.crew(time.sleep, processes=True)
            with pytest.raises(KeyboardInterrupt):
                crew.run([0, 60], stop)  # one is at work then
    finally:
        signal.signal(signal.SIGCHLD, before)
    assert not worker_pids


def test_a_warning_of_forks_beside_threads_is_not_shown(monkeypatch):
    """Python 3.12 and later give one."""
    fork = os.fork

    def warned():
        warnings.warn("may lead to deadlocks in the child", DeprecationWarning, stacklevel=2)
        return fork()

    monkeypatch.setattr(os, "fork", warned)
    with Workers(2) as workers:
        workers.crew(len, processes=True).run(["", "a"], np.testing.assert_equal)


def test_the_collector_leaves_alone_what_they_were_born_with():
    """Else it would touch all of that, and the system would copy what is touched."""
    frozen = []
    with Workers(2) as workers:
        crew = workers.crew(lambda _: gc.get_freeze_count(), processes=True)
        crew.run("ab", lambda _, count: frozen.append(count))
    assert min(frozen) > 1000
    assert gc.get_freeze_count() == 0


MEMORY = """
import json, sys
import numpy as np
from tinyddpm.machine import peak_memory, resident_memory
from tinyddpm.parallel import Workers
kept = []
def work(size):
    kept.append(np.ones(size, np.uint8))
with Workers(2) as workers:
    found = [resident_memory()]
    workers.crew(work, processes=True).run([50 * 2**20] * 2, lambda _index, _none: None)
    found.append(resident_memory())
json.dump([*found, resident_memory(), peak_memory()], sys.stdout)
"""


def test_the_memory_of_workers_counts_and_is_remembered_when_they_end():
    done = subprocess.run([sys.executable, "-c", MEMORY], stdout=subprocess.PIPE, check=True)
    before, during, after, peak = (x / 2**20 for x in json.loads(done.stdout))
    assert during - before == pytest.approx(100, abs=20)
    assert after == pytest.approx(before, abs=10)
    assert peak == pytest.approx(during, abs=10)


def test_signals_to_stop_are_the_parents_to_handle():
    def work(number):
        os.kill(os.getpid(), number)
        return number

    numbers = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGINT]
    found = []
    with Workers(2) as workers:
        workers.crew(work, processes=True).run(numbers, lambda _, number: found.append(number))
        assert not set(numbers) & signal.pthread_sigmask(signal.SIG_BLOCK, ())  # here they arrive
    assert found == numbers


ORPHANS = """
import os, signal, sys, time
from pathlib import Path
from tinyddpm.parallel import Workers
from tinyddpm.training.lock import exclusive_lock

def work(seconds):
    time.sleep(seconds)
    return os.getpid()

lower = [os.dup(0) for _ in range(int(sys.argv[3]))]
with exclusive_lock(Path(sys.argv[1])), Workers(2) as workers:
    for number in lower:
        os.close(number)
    crew = workers.crew(work, processes=True)
    crew.run([0, 0], lambda _, pid: print(pid, flush=True))
    if sys.argv[2] == "at work":
        crew.run([0, 0, 0.5, 0.5], lambda index, _: index and os.kill(os.getpid(), signal.SIGKILL))
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("when", ["at work", "idle"])
@pytest.mark.parametrize("lower", ["0", "9"])
def test_a_killed_program_leaves_no_process_and_no_lock(tmp_path, when, lower):
    """Whether the number of the lock's file is lower than those of the pipes, or higher."""
    path, told = tmp_path / "lock", tmp_path / "pids"
    command = [sys.executable, "-c", ORPHANS, str(path), when, lower]
    with told.open("w") as file:
        assert subprocess.call(command, stdout=file) == -signal.SIGKILL
    with exclusive_lock(path):
        pass  # though its workers may still be at work
    pids = [int(pid) for pid in told.read_text().split()]
    assert len(pids) == 2
    until = time.monotonic() + 10
    while any(alive(pid) for pid in pids):
        assert time.monotonic() < until, "a worker outlived its program"
        time.sleep(0.01)


def alive(pid):
    stat = Path(f"/proc/{pid}/stat")
    try:
        return stat.read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
