"""The gradients of all parameters, gathered into one flat buffer by one kernel.

A layer adds what it found to its parameter's ``grad``. Done one by one that is a launch for each
parameter, and one more for each that many blocks have found a part of; for a small network, a good
part of the step. So on a device they are left as they are, and at the end one kernel adds up their
parts, writes them to where they belong, and begins the sum of their squares on the way.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import final

import numpy as np

from tinyddpm.arrays import Array
from tinyddpm.kernels.cuda.items import table_of
from tinyddpm.kernels.cuda.partial_sums import Gradient, InParts
from tinyddpm.kernels.cuda.runtime import Runtime, blocks, contiguous
from tinyddpm.kernels.cuda.source import Defines

_THREADS, _BLOCKS = 256, 1024
# Of a gradient in at most so many parts a block takes many values at once, of others 32.
_FEW, _LONG, _SHORT = 16, 1024, 32
GATHER_DEFINES: Defines = {"FEW": _FEW, "LONG": _LONG, "SHORT": _SHORT}


@final
class Gradients:
    """Gathers the gradients of parameters of the given ``sizes``, in the order of the flat buffer.

    Attributes:
        partial_squares: sums of squares of the gradient, which together are that of all of it.
    """

    def __init__(self, runtime: Runtime, sizes: Sequence[int]) -> None:
        self._runtime, self._sizes = runtime, sizes
        self.partial_squares = runtime.zeros((min(_BLOCKS, blocks(sum(sizes), _SHORT)),))

    def gather(self, found: Sequence[Gradient], grad: Array) -> None:
        """Write the gradients ``found``, one of each parameter, into ``grad``, flat, when all that
        is formed beside is there.

        Raises:
            ValueError: they are more or fewer, or one has another type or size.
        """
        self._runtime.meet()
        if len(found) != len(self._sizes):
            raise ValueError(f"{len(self._sizes)} gradients were expected: got {len(found)}")
        in_parts = [  # kept until the launch
            _parts(gradient, size) for gradient, size in zip(found, self._sizes, strict=True)
        ]
        starts = [*accumulate(self._sizes, initial=0)][:-1]
        rows = [
            (self._runtime.address(parts), len(parts), _distance(parts), start, size)
            for parts, start, size in zip(in_parts, starts, self._sizes, strict=True)
        ]
        items = [
            blocks(size, _LONG if number <= _FEW else _SHORT) for _, number, _, _, size in rows
        ]
        table = table_of(self._runtime, rows, items)
        function = self._runtime.function("gradients.cu", "gather", GATHER_DEFINES)
        args = table, grad, self.partial_squares, len(rows)
        self._runtime.launch(function, (len(self.partial_squares),), (_THREADS,), args)


def _parts(gradient: Gradient, size: int) -> Array:
    """The parts (P, …) of ``gradient``: itself alone, without gaps, where it is whole.

    The kernel is told their addresses alone, so that no launch would find them wrong.
    """
    parts = gradient.parts if isinstance(gradient, InParts) else contiguous(gradient)[None]
    one = parts[0]
    if one.dtype != np.float32 or one.size != size or not one.flags.c_contiguous:
        raise ValueError(f"a gradient must be {size} float32 in a row: got {one.size} {one.dtype}")
    return parts


def _distance(parts: Array) -> int:
    """From a value of one part to that of the next."""
    return parts.strides[0] // parts.dtype.itemsize
