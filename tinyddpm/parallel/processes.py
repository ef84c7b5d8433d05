"""A crew of processes, for work of many short calls.

Threads of one interpreter wait for each other's Python: where arrays are small, two threads lose an
eighth of their time to its lock, and more when their cores lie far apart. Forked processes have a
lock each. They begin as copies of this process, so that the work they are to do need not be sent,
and share no memory with it afterwards but what ``zeros`` returned.

Tasks and results go through a pipe to each process and back, which must be able to pickle them.
"""

from __future__ import annotations

import mmap
import os
import signal
import warnings
from collections.abc import Callable, Sequence
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Any, Generic, NoReturn, TypeVar, final

import numpy as np

from tinyddpm.arrays import Array
from tinyddpm.errors import TinyDDPMError
from tinyddpm.machine import peak_memory

TaskT = TypeVar("TaskT")
ResultT = TypeVar("ResultT")

_FILES = 1 << 16  # more than a process has open


@final
class Processes(Generic[TaskT, ResultT]):
    """Forked when there is work for the first time; what changes in this process later, they do
    not see.

    Args:
        count: how many.
        work: what is done with a task; its result is sent back.
    """

    def __init__(self, count: int, work: Callable[[TaskT], ResultT]) -> None:
        self._count, self._work = count, work
        self._hands: list[_Hand] = []

    def zeros(self, count: int) -> Array:
        """Return ``count`` float32 zeros, which the processes will share."""
        return np.frombuffer(mmap.mmap(-1, count * 4), np.float32)

    def run(self, tasks: Sequence[TaskT], commit: Callable[[int, ResultT], None]) -> None:
        """As in ``Crew``: task i is done by process i mod W. A single task is done here.

        Raises:
            TinyDDPMError: one of the processes was ended from outside.
        """
        if len(tasks) == 1:
            commit(0, self._work(tasks[0]))
            return
        try:
            self._run(tasks, commit)
        except BaseException:
            self.close()  # some are still at work; the next run has new ones
            raise

    def _run(self, tasks: Sequence[TaskT], commit: Callable[[int, ResultT], None]) -> None:
        while len(self._hands) < self._count:
            self._hands.append(_Hand(self._work))
        for index in range(len(tasks) + self._count):
            hand, earlier = self._hands[index % self._count], index - self._count
            if 0 <= earlier < len(tasks):
                commit(earlier, hand.result())
            if index < len(tasks):
                hand.begin(tasks[index])

    def close(self) -> None:
        """End the processes, at work or not; their memory is counted before."""
        peak_memory()
        for hand in self._hands:
            hand.end()
        self._hands.clear()


@final
class _Hand:
    """One process."""

    def __init__(self, work: Callable[[Any], Any]) -> None:
        self._pipe, pipe = Pipe()
        with warnings.catch_warnings():
            # From Python 3.12 on: other threads may hold locks. Ours are idle then, or BLAS's own.
            warnings.simplefilter("ignore", DeprecationWarning)
            self._pid = os.fork()
        if self._pid == 0:
            _serve(pipe, work)
        pipe.close()

    def begin(self, task: Any) -> None:
        try:
            self._pipe.send(task)
        except OSError as error:
            raise self._was_ended() from error

    def result(self) -> Any:
        try:
            error, result = self._pipe.recv()
        except (EOFError, OSError) as broken:
            raise self._was_ended() from broken
        if error is not None:
            raise error
        return result

    def end(self) -> None:
        self._pipe.close()
        if self._pid:
            os.kill(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, 0)

    def _was_ended(self) -> TinyDDPMError:
        _, status = os.waitpid(self._pid, 0)
        self._pid = 0
        return TinyDDPMError(
            "a worker process was ended in the middle of its work",
            cause=f"exit {os.waitstatus_to_exitcode(status)} (-9: killed, perhaps for memory)",
            remedy="again, with fewer --threads or a smaller batch where memory was short",
        )


def _serve(pipe: Connection, work: Callable[[Any], Any]) -> NoReturn:
    """Do what comes through ``pipe`` until its other end is closed: that of a dead process is.

    Signals to stop are the other's to handle, who may want this step's result first. Of its files
    nothing is kept, as a lock on one of them would be.
    """
    try:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        os.closerange(3, pipe.fileno())
        os.closerange(pipe.fileno() + 1, _FILES)
        while True:
            pipe.send(_outcome(work, pipe.recv()))
    except (EOFError, OSError):
        os._exit(0)
    finally:
        os._exit(1)


def _outcome(work: Callable[[Any], Any], task: Any) -> tuple[Exception | None, Any]:
    """The exception that ``work`` ended in, or None, and its result."""
    try:
        return None, work(task)
    except Exception as error:
        return error, None
