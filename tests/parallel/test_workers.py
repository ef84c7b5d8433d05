"""Workers: how many, order of commits, exceptions, and the hold on BLAS and the interpreter."""

import contextlib
import gc
import os
import sys
import threading
import time
import weakref

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyddpm.blas import blas_threads, one_blas_thread
from tinyddpm.parallel import Workers, available_cores, shard_slices


@given(count=st.integers(0, 20), shard=st.integers(1, 7))
def test_shards_cover_everything_once(count, shard):
    places = [list(range(count))[part] for part in shard_slices(count, shard)]
    assert [place for part in places for place in part] == list(range(count))
    assert all(len(part) <= shard for part in places)


@pytest.mark.parametrize("cores", [1, 5])
def test_there_are_as_many_as_cores_that_this_process_may_use(cores, monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)), raising=False)
    assert available_cores() == Workers().threads == cores
    assert Workers(3).threads == 3


@pytest.mark.parametrize(("counted", "cores"), [(6, 6), (None, 1)])
def test_where_none_tells_which_cores_all_are_taken(counted, cores, monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: counted)
    assert available_cores() == cores


@pytest.mark.parametrize(("threads", "count"), [(1, 3), (2, 1)])
def test_what_needs_no_other_thread_is_done_on_this_one(threads, count):
    found = []
    with Workers(threads) as workers:
        workers.run(
            count, lambda *_: threading.current_thread(), lambda _, thread: found.append(thread)
        )
    assert found == [threading.current_thread()] * count


@pytest.mark.parametrize("threads", [1, 2, 3, 8])
def test_results_are_committed_in_order_whoever_finishes_first(threads):
    committed, at_once = [], []
    running = threading.Semaphore(threads)

    def compute(worker, index):
        assert running.acquire(blocking=False), "more threads than asked for"
        time.sleep(0.003 * ((index * 7) % 5))
        running.release()
        return worker, index * index

    def commit(index, result):
        at_once.append(index)
        committed.append((index, result[1]))
        assert at_once.pop() == index

    with Workers(threads) as workers:
        workers.run(17, compute, commit)
        workers.run(1, compute, commit)
    assert committed == [(i, i * i) for i in range(17)] + [(0, 0)]


def test_a_worker_is_never_in_two_shards_at_once():
    busy = [threading.Lock() for _ in range(3)]

    def compute(worker, index):
        assert busy[worker].acquire(blocking=False)
        time.sleep(0.002 * (index % 3))
        return worker

    def commit(_, worker):
        busy[worker].release()

    with Workers(3) as workers:
        workers.run(20, compute, commit)


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("where", ["compute", "commit"])
def test_an_exception_comes_out_and_ends_the_work(threads, where):
    committed = []

    def compute(_, index):
        if where == "compute" and index == 4:
            raise ZeroDivisionError
        return index

    def commit(index, _):
        if where == "commit" and index == 4:
            raise ZeroDivisionError
        committed.append(index)

    with Workers(threads) as workers:
        with pytest.raises(ZeroDivisionError):
            workers.run(100, compute, commit)
        assert committed == [0, 1, 2, 3]
        workers.run(2, lambda _, index: index, lambda index, _: committed.append(index))
    assert committed == [0, 1, 2, 3, 0, 1]


def test_the_first_to_fail_is_raised_and_all_before_it_are_committed():
    """Not the first in time: here the last fails at once, and the first takes longest."""
    committed = []

    def compute(_, index):
        time.sleep(0.05 * (3 - index))
        if index:
            raise ValueError(f"index {index}")

    with Workers(4) as workers:
        with pytest.raises(ValueError, match="index 1"):
            workers.run(4, compute, lambda index, _: committed.append(index))
        assert committed == [0]


def test_a_later_index_that_fails_afterwards_is_not_raised():
    begun = threading.Barrier(2)

    def compute(_worker, index):
        begun.wait(timeout=10)
        time.sleep(0.05 * index)
        raise ValueError(f"index {index}")

    with Workers(2) as workers, pytest.raises(ValueError, match="index 0"):
        workers.run(2, compute, lambda _index, _result: None)


def test_all_that_wait_for_one_that_fails_are_let_go():
    """The first fails when the others have computed. (Whoever is forgotten waits without end.)"""
    done = threading.Semaphore(0)

    def compute(_, index):
        if index:
            done.release()
            return
        for _ in range(3):
            done.acquire()
        time.sleep(0.05)  # by now they wait
        raise ValueError("index 0")

    with Workers(4) as workers, pytest.raises(ValueError, match="index 0"):
        workers.run(4, compute, lambda _index, _result: None)


def test_after_ctrl_c_nothing_more_is_begun(monkeypatch):
    begun, at_work, told = [], threading.Barrier(3), threading.Event()

    def interrupted(_futures):
        at_work.wait(timeout=10)
        raise KeyboardInterrupt

    def compute(_, index):
        begun.append(index)
        if index < 2:
            at_work.wait(timeout=10)
        told.wait(timeout=10)

    monkeypatch.setattr("tinyddpm.parallel.workers.wait", interrupted)
    committed = []
    with Workers(2) as workers:
        with pytest.raises(KeyboardInterrupt):
            workers.run(50, compute, lambda index, _: committed.append(index))
        told.set()
    assert sorted(begun) == [0, 1]
    assert committed == []


@pytest.mark.parametrize("threads", [1, 2])
def test_work_that_failed_goes_with_its_error(threads):
    """Reference counts alone free what it held: it may be large."""
    held = []

    def compute(_worker, _index):
        mine = set()
        held.append(weakref.ref(mine))
        raise ValueError

    gc.disable()
    try:
        with Workers(threads) as workers:
            with contextlib.suppress(ValueError):
                workers.run(2, compute, lambda _index, _result: None)
            assert held
            assert all(mine() is None for mine in held)
    finally:
        gc.enable()


def test_threads_are_let_in_sooner_while_there_are_workers():
    before = sys.getswitchinterval()
    sys.setswitchinterval(3e-3)
    try:
        with Workers(2):
            assert sys.getswitchinterval() == pytest.approx(1e-5)
        assert sys.getswitchinterval() == pytest.approx(3e-3)
    finally:
        sys.setswitchinterval(before)


def test_blas_is_held_to_one_thread_and_given_back():
    control = blas_threads()
    assert control is not None, "NumPy's own wheels bring an OpenBLAS that can be reached"
    before = control.get()
    control.set(2)
    with Workers(2), one_blas_thread():
        assert control.get() == 1
        assert np.ones((3, 3)) @ np.ones(3) == pytest.approx([3, 3, 3])
    assert control.get() == 2
    control.set(before)
