"""What Ctrl-C, SIGTERM and a closed terminal mean: the end of a step while a run is trained, and
an exception otherwise.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from select import select
from types import FrameType, TracebackType
from typing import Self


@contextmanager
def handled(handler: Callable[[int, FrameType | None], None], *numbers: int) -> Iterator[None]:
    """Let ``handler`` handle the signals ``numbers`` while the block runs.

    A SIGHUP that is ignored, as ``nohup`` asks for, stays ignored. Python lets only the first
    thread handle signals: in another one this does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        numbers = ()
    elif signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:
        numbers = tuple(number for number in numbers if number != signal.SIGHUP)
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)


class Stopped(BaseException):
    """A signal has asked the process to end; like KeyboardInterrupt it is no error.

    Attributes:
        exit_code: 128 + the signal, as a shell reports it.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.exit_code = 128 + number


@contextmanager
def stoppable() -> Iterator[None]:
    """Let SIGTERM and SIGHUP raise ``Stopped``, so that temporary files go and bars end."""

    def stop(number: int, _frame: FrameType | None) -> None:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # it comes twice, see ``StopSignals``
        raise Stopped(number)

    with handled(stop, signal.SIGTERM, signal.SIGHUP):
        yield


class StopSignals:
    """Remembers the first SIGINT, SIGTERM or SIGHUP; a second one ends the process at once.

    The handler only sets a flag. What is on disk is whole at any instant, so that the second signal
    loses no more than the steps since the last checkpoint. SIGHUP is never the second: a terminal
    that is closed sends two, its own and its shell's. Use as a context manager.

    Attributes:
        received: the signal's number, or None.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._open = ExitStack()

    def __enter__(self) -> Self:
        """Take over the three signals."""
        numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        self._open.enter_context(handled(self._handle, *numbers))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Give them back."""
        self._open.close()

    @property
    def exit_code(self) -> int:
        """128 + the signal, as a shell reports it; 0 without one."""
        return 128 + self.received if self.received else 0

    def asked(self) -> bool:
        """Whether to stop."""
        return self.received is not None

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        if self.received is not None:
            if number == signal.SIGHUP:
                return
            try:
                _tell("stopped; --resume goes on from the last checkpoint\n", ends=True)
            finally:
                os._exit(128 + number)
        self.received = number
        _tell("\nstopping after this step (again: at once)\n")


def _tell(text: str, *, ends: bool = False) -> None:
    """Write to stderr at once or not at all; where the process ``ends``, the cursor that a progress
    bar hides is shown again.

    A handler may run while a write to Python's stderr waits, which allows no other in between.
    """
    with suppress(OSError, ValueError):
        if sys.stderr and select([], [sys.stderr], [], 0.0)[1]:
            show_cursor = "\x1b[?25h\n" if ends and sys.stderr.isatty() else ""
            os.write(sys.stderr.fileno(), f"{show_cursor}{text}".encode())
