"""One launch for many arrays: their work is cut into items, and a table tells whose an item is."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tinyddpm.arrays import Array
from tinyddpm.kernels.cuda.runtime import Runtime


def table_of(runtime: Runtime, rows: Sequence[Sequence[int]], items: Sequence[int]) -> Array:
    """Return a table on the device, as ``items.cuh`` reads it: of each array a row of numbers and
    addresses, and how many ``items`` its work has.
    """
    host = np.zeros((len(rows) + 1, len(rows[0]) + 1), np.uint64)
    host[:-1, :-1] = rows
    host[1:, -1] = np.cumsum(items)
    return runtime.constant(host)
