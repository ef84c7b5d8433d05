"""The gradients of all parameters, gathered into one flat buffer by one kernel.

A layer adds what it found to its parameter's ``grad``. Done one by one that is a launch for each
parameter, and one more for each that many blocks have found a part of; for a small network, a good
part of the step. So on a device they are left as they are, and at the end one kernel adds up their
parts, writes them to where they belong, and begins the sum of their squares on the way.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import numpy as np

from tinyddpm.arrays import Array
from tinyddpm.kernels.cuda.partial_sums import Gradient, InParts
from tinyddpm.kernels.cuda.runtime import Argument, Runtime, blocks, contiguous
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
        self._runtime = runtime
        starts = np.cumsum([0, *sizes])
        self._sizes, self._starts = np.array(sizes), runtime.empty(starts.shape, np.int64)
        runtime.upload(starts, self._starts)
        self.partial_squares = runtime.zeros((min(_BLOCKS, blocks(sum(sizes), _LONG)),))

    def gather(self, found: Sequence[Gradient], grad: Array) -> None:
        """Write the gradients ``found``, one of each parameter, into ``grad``, flat.

        Raises:
            ValueError: they are more or fewer.
        """
        if len(found) != len(self._sizes):
            raise ValueError(f"{len(self._sizes)} gradients were expected: got {len(found)}")
        packed = [_parts(gradient) for gradient in found]  # kept until the launch
        number = np.array([len(parts) for parts in packed])
        items = np.cumsum([0, *-(-self._sizes // np.where(number <= _FEW, _LONG, _SHORT))])
        addresses = [self._runtime.address(parts) for parts in packed]
        distances = [parts.strides[0] // parts.dtype.itemsize for parts in packed]
        constant = self._runtime.constant
        table = [
            constant(np.array(addresses, np.uint64)),
            *(constant(np.array(of_each, np.int64)) for of_each in (number, distances, items)),
            self._starts,
        ]
        function = self._runtime.function("gradients.cu", "gather", GATHER_DEFINES)
        args: list[Argument] = [*table, grad, self.partial_squares, len(packed)]
        self._runtime.launch(function, (len(self.partial_squares),), (_THREADS,), args)


def _parts(gradient: Gradient) -> Array:
    """The parts (P, …) of ``gradient``: itself alone, without gaps, where it is whole."""
    if isinstance(gradient, InParts):
        return gradient.parts
    return contiguous(gradient)[None]
