"""Partial sums of many blocks, added up in an order that depends on their number alone."""

from __future__ import annotations

import math

from tinyddpm.arrays import Array
from tinyddpm.kernels.cuda.runtime import Runtime, blocks


def summed(runtime: Runtime, partial: Array) -> Array:
    """Return the sum of ``partial`` over its first axis; where that is 1, the part itself."""
    parts, *shape = partial.shape
    total: Array = partial[0]
    if parts == 1:
        return total
    total = runtime.empty(tuple(shape))
    count = math.prod(shape)
    function = runtime.function("partial_sums.cu", "add_partials")
    block = (32, min(32, blocks(parts, 4)))
    runtime.launch(function, (blocks(count, 32),), block, (partial, total, parts, count))
    return total
