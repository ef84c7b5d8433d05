"""Progress on stderr: a bar on a terminal, plain lines anywhere else."""

from __future__ import annotations

import shutil
import sys
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Self

import click

from tinyddpm.cli.messages import say

if TYPE_CHECKING:
    from click._termui_impl import ProgressBar  # what click.progressbar returns

RECENT_SECONDS = 10.0  # or the last step, where it took longer
LINE_EVERY_SECONDS = 30.0
LINES_IN_ALL = 20


class Progress:
    """Counts ``total`` steps; ``advance`` is told of each. Use as a context manager.

    Args:
        label: what is going on.
        total: steps to be done by this process.
        images: images per step, for the rate; 0 shows none.
        first: the number of the step before the first, where a run goes on.
    """

    def __init__(self, label: str, total: int, *, images: int = 0, first: int = 0) -> None:
        self.label, self.total, self.images, self.first = label, total, images, first
        self.done = 0
        self._bar: ProgressBar[int] | None = None
        self._last_line = time.perf_counter()
        self._marks = deque([(self._last_line, 0)])  # when how many steps were done
        self._text = ""

    def __enter__(self) -> Self:
        """Show the empty bar, if there is a terminal."""
        self._last_line = time.perf_counter()
        self._marks = deque([(self._last_line, 0)])
        if sys.stderr and sys.stderr.isatty():
            bar = click.progressbar(
                length=self.total,
                label=self.label,
                width=0,  # as wide as fits beside the rest: a line that wraps is not overwritten
                file=sys.stderr,
            )
            bar.item_show_func = lambda _: self._fitting(bar)
            self._bar = bar
            self._draw(bar.render_progress)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the bar's line."""
        if self._bar is not None:
            self._draw(self._bar.render_finish)

    def advance(self, detail: str = "") -> None:
        """One step is done; ``detail`` says what came of it."""
        self.done += 1
        now = time.perf_counter()
        per_second = self._steps_a_second(now)
        images = per_second * self.images
        rate = f"{images:{'.0f' if images >= 10 else '.2g'}} images/s" if self.images else ""
        at = f"step {self.first + self.done}/{self.first + self.total}"
        self._text = "  ".join(part for part in (at, detail, rate) if part)
        if self._bar is not None:
            self._draw(partial(self._bar.update, 1))
        elif self._line_is_due(now):
            self._last_line = now
            left = duration((self.total - self.done) / per_second)
            say(f"{self.label}  {self._text}  {left} left")

    def _fitting(self, bar: ProgressBar[int]) -> str:
        """As many parts of the text as the line has room for beside what Click writes in it."""
        left = "" if bar.finished else f"{bar.format_eta()}  "
        beside = f"{self.label}  []  {bar.format_pct()}  {left}"
        room, text = shutil.get_terminal_size().columns - len(beside), self._text
        while text and len(text) > room:
            text = text.rpartition("  ")[0]
        return text

    def _draw(self, draw: Callable[[], None]) -> None:
        """Where the terminal is gone there is no bar any more; what is being done goes on."""
        try:
            draw()
        except OSError:
            self._bar = None

    def _steps_a_second(self, now: float) -> float:
        """Of late, so that a slow beginning is soon forgotten."""
        marks = self._marks
        marks.append((now, self.done))
        while now - marks[1][0] >= RECENT_SECONDS:
            marks.popleft()
        then, done = marks[0]
        return (self.done - done) / max(now - then, 1e-9)

    def _line_is_due(self, now: float) -> bool:
        share = max(self.total // LINES_IN_ALL, 1)
        if self.done == self.total:
            return True
        recently = now - self._last_line < 1.0
        return not recently and (
            self.done % share == 0 or now - self._last_line >= LINE_EVERY_SECONDS
        )


def duration(seconds: float) -> str:
    """Return ``seconds`` in its two largest units of days, hours, minutes and seconds."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days:,}d{hours:02d}h"
    if hours:
        return f"{hours}h{minutes:02d}m"
    return f"{minutes}m{seconds:02d}s" if minutes else f"{seconds}s"
