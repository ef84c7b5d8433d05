"""Crews of threads and of processes: order, exceptions, and what they share."""

import os
import sys
import threading
import time

import numpy as np
import pytest

from tinyddpm.errors import TinyDDPMError
from tinyddpm.parallel import Workers, shared_zeros
from tinyddpm.parallel.processes import Processes

forks = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="processes are for Linux")
KINDS = [False, pytest.param(True, marks=forks)]


@pytest.fixture(params=KINDS, ids=["threads", "processes"])
def processes(request):
    return request.param


def test_the_kind_is_what_was_asked_for():
    with Workers(2) as workers:
        assert isinstance(workers.crew(len, processes=True), Processes) == (sys.platform == "linux")
        assert not isinstance(workers.crew(len, processes=False), Processes)
        assert workers.can_have_processes() == (sys.platform == "linux")
    with Workers(1) as alone:
        assert not isinstance(alone.crew(len, processes=True), Processes)
        assert not alone.can_have_processes()


def test_where_a_fork_is_not_safe_crews_are_of_threads(monkeypatch):
    """In a thread but the first, with a BLAS that is not held, and on macOS."""
    with Workers(2) as workers:
        found = []
        thread = threading.Thread(target=lambda: found.append(workers.can_have_processes()))
        thread.start()
        thread.join()
        monkeypatch.setattr("tinyddpm.parallel.workers.blas_threads", lambda: None)
        found.append(workers.can_have_processes())
        monkeypatch.undo()
        monkeypatch.setattr(sys, "platform", "darwin")
        found.append(workers.can_have_processes())
    assert found == [False] * 3


@pytest.mark.parametrize("threads", [1, 2, 3, 8])
def test_results_are_committed_in_order_whoever_finishes_first(processes, threads):
    def work(task):
        time.sleep(0.003 * ((task * 7) % 5))
        return task * task, os.getpid()

    found = []
    with Workers(threads) as workers:
        crew = workers.crew(work, processes=processes)
        for tasks in (range(17), [3], [], range(2)):
            crew.run(tasks, lambda index, result: found.append((index, result)))
    numbers = [(index, square) for index, (square, _) in found]
    assert numbers == [(i, i * i) for i in range(17)] + [(0, 9)] + [(0, 0), (1, 1)]
    pids = {pid for _, (_, pid) in found[:17]}
    assert pids == {os.getpid()} if threads == 1 or not processes else len(pids) == threads


def test_a_task_is_begun_when_the_one_its_worker_had_before_is_committed(processes):
    """So W slots for results are enough."""
    with Workers(3) as workers:
        crew = workers.crew(lambda task: slots[task % 3], processes=processes)
        slots = shared_zeros(3)

        def commit(index, seen):
            assert seen == index // 3, "the slot was taken before its result was committed"
            slots[index % 3] += 1

        crew.run(range(20), commit)


def test_all_see_the_memory_that_they_share(processes):
    def work(task):
        slots[task] += task
        return slots[7]

    with Workers(2) as workers:
        crew = workers.crew(work, processes=processes)
        slots = shared_zeros(8)
        assert slots.dtype == np.float32
        assert not slots.any()
        for seen in (5.0, 6.0):
            slots[7] = seen
            crew.run(range(7), lambda _, found, seen=seen: np.testing.assert_equal(found, seen))
    np.testing.assert_array_equal(slots[:7], 2 * np.arange(7))


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("where", ["work", "commit"])
def test_an_exception_comes_out_and_the_crew_works_on(processes, threads, where):
    def work(task):
        if task == "bad":
            raise TinyDDPMError("this is wrong", cause="that", remedy="the other")
        return task

    def commit(index, result):
        if result == "refused":
            raise TinyDDPMError("this is wrong", cause="that", remedy="the other")
        committed.append((index, result))

    committed = []
    tasks = [*"abc", {"work": "bad", "commit": "refused"}[where], *"efghijklm"]
    with Workers(threads) as workers:
        crew = workers.crew(work, processes=processes)
        with pytest.raises(TinyDDPMError) as raised:
            crew.run(tasks, commit)
        assert str(raised.value) == "this is wrong\ncause: that\ntry: the other"
        assert committed == [(0, "a"), (1, "b"), (2, "c")]
        crew.run(["x", "y"], commit)
    assert committed[3:] == [(0, "x"), (1, "y")]
