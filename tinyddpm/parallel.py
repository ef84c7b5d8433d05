"""One batch = shards; workers are threads.

Nothing in the network couples the images of a batch (GroupNorm's statistics are per image), so a
batch is cut into shards of a fixed size, and each shard goes through the whole network, forward and
backward, on one thread. Most of that time is spent inside NumPy with the interpreter lock released;
a thread that wants the lock back asks its holder to let go after 10 µs, not Python's 5 ms.

Results are committed in the order of the shards, whoever finishes first. Floating-point sums over
shards therefore do not depend on the number of workers: one, two or twenty give the same bits.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from types import TracebackType
from typing import Self, TypeVar

from tinyddpm.blas import one_blas_thread

T = TypeVar("T")


def available_cores() -> int:
    """The number of cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def shard_slices(count: int, shard: int) -> list[slice]:
    """Cut ``count`` items into slices of ``shard``, the last one perhaps shorter."""
    return [slice(start, min(start + shard, count)) for start in range(0, count, shard)]


class Workers:
    """A fixed number of threads; BLAS is held to one thread while they exist.

    Use as a context manager.

    Args:
        threads: how many; 0 means one for each available core.
    """

    def __init__(self, threads: int = 0) -> None:
        self.threads = threads or available_cores()
        self._open = ExitStack()
        self._pool: ThreadPoolExecutor | None = None

    def __enter__(self) -> Self:
        """Start the threads."""
        self._open.enter_context(one_blas_thread())
        self._open.callback(sys.setswitchinterval, sys.getswitchinterval())
        sys.setswitchinterval(1e-5)
        if self.threads > 1:
            self._pool = self._open.enter_context(ThreadPoolExecutor(self.threads))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop them."""
        self._open.close()

    def run(
        self,
        count: int,
        compute: Callable[[int, int], T],
        commit: Callable[[int, T], None],
    ) -> None:
        """Call ``compute(worker, index)`` for each index below ``count``, in parallel, and
        ``commit(index, result)`` in the order of the indices, one at a time, on the thread that
        computed it. The first exception of either is raised, and no further index is begun.
        """
        if self._pool is None or count == 1:
            for index in range(count):
                commit(index, compute(0, index))
            return
        turn = _Turn(count)
        futures = [
            self._pool.submit(_work, turn, worker, compute, commit)
            for worker in range(min(self.threads, count))
        ]
        for future in futures:
            future.result()


class _Turn:
    """Hands out the indices, and lets their results through in order."""

    def __init__(self, count: int) -> None:
        self._count, self._next, self._committed = count, 0, 0
        self._failed = False
        self._changed = threading.Condition()

    def take(self) -> int | None:
        """The next index, or None when there is none left or another thread failed."""
        with self._changed:
            if self._failed or self._next == self._count:
                return None
            self._next += 1
            return self._next - 1

    def wait_for(self, index: int) -> bool:
        """Wait until all earlier indices are committed; False if one of them failed."""
        with self._changed:
            self._changed.wait_for(lambda: self._failed or self._committed == index)
            return not self._failed

    def done(self) -> None:
        with self._changed:
            self._committed += 1
            self._changed.notify_all()

    def fail(self) -> None:
        with self._changed:
            self._failed = True
            self._changed.notify_all()


def _work(
    turn: _Turn,
    worker: int,
    compute: Callable[[int, int], T],
    commit: Callable[[int, T], None],
) -> None:
    try:
        while (index := turn.take()) is not None:
            result = compute(worker, index)
            if not turn.wait_for(index):
                return
            commit(index, result)
            turn.done()
    except BaseException:
        turn.fail()
        raise
