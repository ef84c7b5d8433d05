"""Stopping at the end of a step: what Ctrl-C, SIGTERM and a closed terminal mean meanwhile."""

from __future__ import annotations

import os
import signal
from types import FrameType, TracebackType
from typing import Any, Self

from tinyddpm.cli.messages import say


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
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        """Take over the three signals."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Give them back."""
        for number, handler in self._before.items():
            signal.signal(number, handler)

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
                say("stopped; --resume goes on from the last checkpoint")
            finally:
                os._exit(128 + number)
        self.received = number
        say("\nstopping after this step (again: at once)")
