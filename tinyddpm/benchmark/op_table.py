"""Where a training step's time goes: a kernels table with a stopwatch on every entry.

The step runs on one thread, so that the times of the entries and of everything else (drawing noise,
adding gradients and attention's branch, the optimiser, Python itself) add up to that of the step.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any, NamedTuple

from tinyddpm.benchmark.flops import BACKWARD, Products
from tinyddpm.ops.kernels import Kernels

_SUFFIX = "_backward"


class Stopwatch:
    """Seconds and calls of every function that it was put on."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self.clock = clock
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self.calls: Counter[str] = Counter()

    def reset(self) -> None:
        """Forget what was counted."""
        self.seconds.clear()
        self.calls.clear()

    def on(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return ``function`` with its time added up under ``name``."""

        def timed(*args: Any, **options: Any) -> Any:
            begun = self.clock()
            result = function(*args, **options)
            self.seconds[name] += self.clock() - begun
            self.calls[name] += 1
            return result

        return timed

    def on_table(self, kernels: Kernels) -> Kernels:
        """Return ``kernels`` with the stopwatch on every entry."""
        entries = {field.name: getattr(kernels, field.name) for field in fields(kernels)}
        timed: dict[str, Any] = {n: self.on(n, op) for n, op in entries.items() if callable(op)}
        return replace(kernels, **timed)


class OpRow(NamedTuple):
    """An entry of the table and its backward, per step.

    Attributes:
        op: its name.
        calls: of the forward.
        forward: seconds.
        backward: seconds.
        share: of the step.
        flops: operations a second, for products.
    """

    op: str
    calls: float
    forward: float
    backward: float
    share: float
    flops: float | None


class OpTable(NamedTuple):
    """A training step on one thread.

    Attributes:
        rows: the entries, the slowest first.
        everything_else: seconds of a step that no entry took.
        total: seconds of a step.
    """

    rows: list[OpRow]
    everything_else: float
    total: float


def op_table(
    watch: Stopwatch, *, total: float, steps: int, images: int, products: Products
) -> OpTable:
    """Sort what ``watch`` counted in ``steps`` steps that took ``total`` seconds together.

    Args:
        watch: was on the table.
        total: seconds.
        steps: how many.
        images: of a step.
        products: operations of the forward of one image.
    """
    per_image, rows = products._asdict(), []
    for op in [*watch.calls]:
        if op.endswith(_SUFFIX):
            continue
        forward, backward = watch.seconds[op], watch.seconds[op + _SUFFIX]
        work = steps * images * (1 + BACKWARD) * per_image[op] if op in per_image else None
        rows.append(
            OpRow(
                op=op,
                calls=watch.calls[op] / steps,
                forward=forward / steps,
                backward=backward / steps,
                share=(forward + backward) / total,
                flops=work / (forward + backward) if work else None,
            )
        )
    rows.sort(key=lambda row: row.share, reverse=True)
    everything_else = (total - sum(watch.seconds.values())) / steps
    return OpTable(rows, everything_else, total / steps)
