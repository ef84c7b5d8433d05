"""Workers: threads, and crews of threads or of processes.

Threads spend most of their time inside NumPy, without the interpreter's lock. A thread that wants
the lock back waits 10 µs before it asks the holder to let go, and not 5 ms as is Python's default.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack
from types import TracebackType
from typing import Generic, Self, TypeVar, final

from tinyddpm.blas import blas_threads, one_blas_thread
from tinyddpm.parallel.crew import Crew
from tinyddpm.parallel.processes import Processes

T = TypeVar("T")
TaskT = TypeVar("TaskT")
ResultT = TypeVar("ResultT")


def available_cores() -> int:
    """The number of cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def shard_slices(count: int, shard: int) -> list[slice]:
    """Cut ``count`` items into slices of ``shard``, the last one perhaps shorter."""
    return [slice(start, min(start + shard, count)) for start in range(0, count, shard)]


class Workers:
    """A fixed number of workers; BLAS is held to one thread while they exist.

    Use it as a context manager. Its crews must not be used after the block has ended.

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

    def can_have_processes(self) -> bool:
        """Whether crews can be of processes here."""
        return self.threads > 1 and _can_fork()

    def crew(
        self, work: Callable[[TaskT], ResultT], *, processes: bool = False
    ) -> Crew[TaskT, ResultT]:
        """Return a crew of as many workers for ``work``: ``processes`` if that is asked for and the
        system can do it, and threads otherwise.
        """
        if not (processes and self.can_have_processes()):
            return _Threads(self, work)
        crew = Processes(self.threads, work)
        self._open.callback(crew.close)
        return crew

    def run(
        self,
        count: int,
        compute: Callable[[int, int], T],
        commit: Callable[[int, T], None],
    ) -> None:
        """Call ``compute(worker, index)`` for each index below ``count``, in parallel.

        ``commit(index, result)`` is called on the thread that computed the result, for one index at
        a time and in their order. If one of the two fails, no further index is begun; the exception
        is raised when all earlier indices are committed.
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
        try:
            wait(futures)
        except BaseException as error:  # Ctrl-C: they are to begin nothing more
            turn.fail(0, error)
        turn.raise_error()


def _can_fork() -> bool:
    """Whether a fork is safe here.

    The BLAS of macOS does not survive a fork, and a BLAS with threads of its own may not. Nor is a
    fork safe from any thread but the first, because another one may be inside a product.
    """
    held = blas_threads() is not None and threading.current_thread() is threading.main_thread()
    return held and sys.platform.startswith("linux")


@final
class _Threads(Generic[TaskT, ResultT]):
    """A crew of threads."""

    def __init__(self, workers: Workers, work: Callable[[TaskT], ResultT]) -> None:
        self._workers, self._work = workers, work

    def run(self, tasks: Sequence[TaskT], commit: Callable[[int, ResultT], None]) -> None:
        self._workers.run(len(tasks), lambda _, index: self._work(tasks[index]), commit)


class _Turn:
    """Hands out the indices, and lets their results through in order, up to the first that fails.

    Attributes:
        error: of the first that failed; None if none did.
    """

    def __init__(self, count: int) -> None:
        self._next, self._committed, self._end = 0, 0, count
        self.error: BaseException | None = None
        self._changed = threading.Condition()

    def take(self) -> int | None:
        """The next index, or None when there is none left or one has failed."""
        with self._changed:
            if self._next >= self._end:
                return None
            self._next += 1
            return self._next - 1

    def wait_for(self, index: int) -> bool:
        """Wait until all earlier indices are committed; False if one of them failed."""
        with self._changed:
            self._changed.wait_for(lambda: self._end <= index or self._committed == index)
            return index < self._end

    def done(self) -> None:
        with self._changed:
            self._committed += 1
            self._changed.notify_all()

    def fail(self, index: int, error: BaseException) -> None:
        """Let no index from this one on through."""
        with self._changed:
            if index < self._end:
                self._end, self.error = index, error
            self._changed.notify_all()

    def raise_error(self) -> None:
        """Raise the error, if there is one, and forget it.

        Its traceback refers to frames that refer to this object: a cycle, which would keep the work
        and its arrays alive.
        """
        error, self.error = self.error, None
        try:
            if error:
                raise error
        finally:
            del error


def _work(
    turn: _Turn,
    worker: int,
    compute: Callable[[int, int], T],
    commit: Callable[[int, T], None],
) -> None:
    while (index := turn.take()) is not None:
        try:
            result = compute(worker, index)
            if not turn.wait_for(index):
                return
            commit(index, result)
            turn.done()
        except BaseException as error:  # the thread that waits for all raises it
            turn.fail(index, error)
