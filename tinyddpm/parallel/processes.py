"""A crew of processes.

Threads of one interpreter wait for each other's Python: two of them take a tenth longer for a step
of ``mnist`` than two processes. A forked process begins as a copy of this one, so the function that
it is to call need not be sent. Afterwards the two share only the memory of ``shared_zeros``.

Tasks go to each process through a pipe, and results come back through it; pickle must be able to
write them.
"""

from __future__ import annotations

import gc
import mmap
import os
import pickle
import signal
import traceback
import warnings
from collections.abc import Callable, Sequence
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Any, Generic, NoReturn, TypeVar, final

import numpy as np

from tinyddpm.arrays import Array
from tinyddpm.errors import TinyDDPMError
from tinyddpm.machine import peak_memory, worker_pids

TaskT = TypeVar("TaskT")
ResultT = TypeVar("ResultT")

_FILES = 1 << 20  # as many as most systems let a process open


def shared_zeros(count: int) -> Array:
    """Return ``count`` float32 zeros, in memory that processes forked later will share."""
    return np.frombuffer(mmap.mmap(-1, count * 4), np.float32)


@final
class Processes(Generic[TaskT, ResultT]):
    """A crew of processes, forked when there is work for the first time.

    They do not see what changes in this process after that.

    Args:
        count: how many.
        work: what is done with a task; its result is sent back.
    """

    def __init__(self, count: int, work: Callable[[TaskT], ResultT]) -> None:
        self._count, self._work = count, work
        self._processes: list[_Process] = []

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
        count = min(self._count, len(tasks))
        self._begin(count)
        for index in range(len(tasks) + count):
            process, earlier = self._processes[index % count], index - count
            if earlier >= 0:
                commit(earlier, process.result())
            if index < len(tasks):
                process.begin(tasks[index])

    def _begin(self, count: int) -> None:
        """See to it that there are ``count`` processes, with all signals blocked.

        A Ctrl-C goes to every process of a terminal. This one decides what it means, and may want
        the results of the step first; then it ends the others.
        """
        before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
        try:
            signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
            while len(self._processes) < count:
                self._processes.append(_Process(self._work))
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def close(self) -> None:
        """End the processes, at work or not; their memory is counted before."""
        peak_memory()
        while self._processes:
            self._processes.pop().end()


@final
class _Process:
    """One process."""

    def __init__(self, work: Callable[[Any], Any]) -> None:
        self._pipe, pipe = Pipe()
        self._pid = _fork()
        if self._pid == 0:
            _serve(pipe, work)
        pipe.close()
        worker_pids.add(self._pid)

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

    def end(self) -> int | None:
        """End it, unless it has ended, and return its exit code, or None if that is not known."""
        pid, self._pid = self._pid, 0
        self._pipe.close()
        if not pid:
            return None
        worker_pids.discard(pid)
        try:
            os.kill(pid, signal.SIGKILL)
            return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        except (ProcessLookupError, ChildProcessError):  # where SIGCHLD is ignored, none is told
            return None

    def _was_ended(self) -> TinyDDPMError:
        return TinyDDPMError(
            "a worker process was ended in the middle of its work",
            cause=f"exit {self.end()} (-9: killed, perhaps for memory)",
            remedy="again, with fewer --threads or a smaller batch where memory was short",
        )


def _fork() -> int:
    try:
        with warnings.catch_warnings():
            # Python 3.12 and later warn that another thread may hold a lock that the child will
            # wait for. Ours hold none when this one forks: none is inside NumPy or BLAS then.
            warnings.simplefilter("ignore", DeprecationWarning)
            return os.fork()
    except OSError as error:
        raise TinyDDPMError(
            "no worker process could be begun", cause=str(error), remedy="--threads 1"
        ) from error


def _serve(pipe: Connection, work: Callable[[Any], Any]) -> NoReturn:
    """Do the tasks that come through ``pipe`` until its other end is closed, as it also is when
    the first process dies.

    The files that the first process had open are closed here: otherwise this process would hold
    their locks, too. The garbage collector leaves the first process's objects alone.
    """
    try:
        gc.freeze()
        os.closerange(3, pipe.fileno())
        os.closerange(pipe.fileno() + 1, _FILES)
        while True:
            pipe.send(_outcome(work, pipe.recv()))
    except (EOFError, OSError):
        os._exit(0)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(1)


def _outcome(work: Callable[[Any], Any], task: Any) -> tuple[Exception | None, Any]:
    """The exception that ``work`` ended in, or None, and its result."""
    try:
        return None, work(task)
    except Exception as error:
        error.add_note("".join(traceback.format_exception(error)))
        return _sendable(error), None


def _sendable(error: Exception) -> Exception:
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        told = RuntimeError(f"{type(error).__name__}: {error}")
        for note in error.__notes__:
            told.add_note(note)
        return told
    return error
