"""A curve in one line of text."""

from __future__ import annotations

import math
from collections.abc import Sequence

BARS = "▁▂▃▄▅▆▇█"


def sparkline(values: Sequence[float | None], low: float, high: float) -> str:
    """Return a bar for each of ``values``, a space for None; its height is logarithmic.

    Args:
        values: positive numbers.
        low: what the lowest bar stands for; less is drawn like it.
        high: what the highest bar stands for; more is drawn like it.
    """
    return "".join(" " if value is None else _bar(value, low, high) for value in values)


def _bar(value: float, low: float, high: float) -> str:
    if not 0 < low < high:
        return BARS[0]
    share = math.log(min(max(value, low), high) / low) / math.log(high / low)
    return BARS[min(int(share * len(BARS)), len(BARS) - 1)]
