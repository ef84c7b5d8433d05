"""Times of contestants that take turns: by the clock on the wall, or by events of a GPU.

A machine's speed drifts with its temperature and with what else it does. So contestants are timed
in rounds. In each round every contestant has a turn of several steps; the next round has the
reverse order. Each round gives one ratio, and the result is the median and the quartiles of the
ratios.

Before each turn there is a pause. The idle threads of an OpenMP runtime, such as PyTorch's, go on
spinning for some milliseconds after the last parallel region; NumPy's and ours sleep at once. In
the pause they all fall asleep, so that none takes a core away from the next contestant. Then comes
a step that is not counted, because the caches still hold the other side's numbers.

A GPU works while the host goes on. There a turn lies between two events of the device. An event is
a mark in the queue of its work, and gets the time at which the device reaches it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import numpy as np

TURN_SECONDS = 0.25  # about how long a turn lasts
PAUSE_SECONDS = 0.05  # ten times what GNU's OpenMP spins for

Step = Callable[[], object]  # does one step; a GPU's may be queued when it returns
Timed = Callable[[int], float]  # does so many steps in a row; returns the mean seconds of one


class Spread(NamedTuple):
    """The median and the quartiles of some measurements."""

    lower: float
    median: float
    upper: float

    @classmethod
    def of(cls, values: list[float]) -> Spread:
        """Of ``values``, at least one."""
        lower, median, upper = np.quantile(values, [0.25, 0.5, 0.75]).tolist()
        return cls(lower, median, upper)


class Event(Protocol):
    """A mark in the queue of a device."""

    def record(self) -> object:
        """Put it behind all that is queued now."""

    def synchronize(self) -> object:
        """Wait until the device comes to it."""


def seconds_of(step: Step, steps: int) -> float:
    """The mean seconds of a step, over ``steps`` in a row, each done when it returns."""
    begun = time.perf_counter()
    for _ in range(steps):
        step()
    return (time.perf_counter() - begun) / steps


def seconds_by_events(
    event: Callable[[], Event], milliseconds: Callable[[Any, Any], float], step: Step, steps: int
) -> float:
    """The mean seconds of a step, over ``steps`` in a row, by the device that does them.

    Args:
        event: makes one.
        milliseconds: between two that the device has come to.
        step: may return before it is done.
        steps: how many.
    """
    begun, ended = event(), event()
    begun.record()
    for _ in range(steps):
        step()
    ended.record()
    ended.synchronize()
    return milliseconds(begun, ended) / 1e3 / steps


def steps_of_a_turn(timed: Timed) -> int:
    """How many steps a turn needs to last ``TURN_SECONDS``."""
    return max(1, round(TURN_SECONDS / timed(2)))


def in_turns(
    contestants: dict[str, Timed],
    *,
    rounds: int,
    steps: int = 0,
    pause: float = PAUSE_SECONDS,
    warm_up: int = 1,
) -> dict[str, list[float]]:
    """Time ``contestants`` side by side, once each has warmed up.

    Args:
        contestants: each one's steps, with a clock.
        rounds: turns of each.
        steps: of a turn; 0: as many as take a quarter of a second.
        pause: seconds before each turn.
        warm_up: steps of each before the first turn.

    Returns:
        For each contestant, the mean seconds of a step in each round.
    """
    for timed in contestants.values():
        timed(warm_up)  # the first is slow: memory is fetched, weights are prepared
    length = {name: steps or steps_of_a_turn(timed) for name, timed in contestants.items()}
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for index in range(rounds):
        order = [*contestants] if index % 2 == 0 else [*reversed(contestants)]
        for name in order:
            time.sleep(pause)
            contestants[name](1)
            seconds[name].append(contestants[name](length[name]))
    return seconds


def paired_ratio(theirs: list[float], ours: list[float]) -> Spread:
    """Theirs / ours, round by round: above 1 we are faster."""
    return Spread.of([a / b for a, b in zip(theirs, ours, strict=True)])
