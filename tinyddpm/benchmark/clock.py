"""Times by the clock on the wall, of contestants that take turns.

A machine's speed drifts with its temperature and with what else it does. So contestants are timed
in rounds: in each, every one of them has a turn of several steps, in one order and in the next
round in the other. Each round gives one ratio; their median and quartiles are what is told.

Before each turn there is a pause. The idle threads of an OpenMP runtime, such as PyTorch's, go on
spinning for some milliseconds after the last parallel region; NumPy's and ours sleep at once. In
the pause they all fall asleep, so that nobody takes a core away from whoever comes next. Then comes
a step that is not counted, for the caches hold the other side's numbers.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

TURN_SECONDS = 0.25  # a turn is to last at least so long
PAUSE_SECONDS = 0.05  # ten times what GNU's OpenMP spins for

Steps = dict[str, Callable[[], object]]  # by contestant: does one step, and returns when done


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


def seconds_of(step: Callable[[], object], steps: int) -> float:
    """The mean seconds of a step, over ``steps`` in a row."""
    begun = time.perf_counter()
    for _ in range(steps):
        step()
    return (time.perf_counter() - begun) / steps


def steps_of_a_turn(step: Callable[[], object]) -> int:
    """How many steps a turn needs to last ``TURN_SECONDS``."""
    return max(1, round(TURN_SECONDS / seconds_of(step, 2)))


def in_turns(
    contestants: Steps, *, rounds: int, steps: int = 0, pause: float = PAUSE_SECONDS
) -> dict[str, list[float]]:
    """Time ``contestants`` side by side, once each has done a step to warm up.

    Args:
        contestants: each one's step.
        rounds: turns of each.
        steps: of a turn; 0: as many as take a quarter of a second.
        pause: seconds before each turn.

    Returns:
        For each contestant, the mean seconds of a step in each round.
    """
    for step in contestants.values():
        step()  # the first is slow: memory is fetched, weights are prepared
    length = {name: steps or steps_of_a_turn(step) for name, step in contestants.items()}
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for index in range(rounds):
        order = [*contestants] if index % 2 == 0 else [*reversed(contestants)]
        for name in order:
            time.sleep(pause)
            contestants[name]()
            seconds[name].append(seconds_of(contestants[name], length[name]))
    return seconds


def paired_ratio(theirs: list[float], ours: list[float]) -> Spread:
    """Theirs / ours, round by round: above 1 we are faster."""
    return Spread.of([a / b for a, b in zip(theirs, ours, strict=True)])
