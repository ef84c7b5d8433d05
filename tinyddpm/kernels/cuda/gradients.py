"""The gradients of all parameters, gathered into one flat buffer by one kernel.

A layer adds what it found to its parameter's ``grad``. Done one by one that is a launch for each
parameter, and for a small network a good part of the step. So on a device they are left as they
are, and at the end one kernel copies all of them to where they belong, and begins the sum of their
squares on the way.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import numpy as np

from tinyddpm.arrays import Array
from tinyddpm.kernels.cuda.runtime import Runtime, blocks, contiguous

_THREADS, _CHUNK, _BLOCKS = 256, 4096, 512


@final
class Gradients:
    """Gathers the gradients of parameters of the given ``sizes``, in the order of the flat buffer.

    Attributes:
        partial_squares: sums of squares of the gradient, which together are that of all of it.
    """

    def __init__(self, runtime: Runtime, sizes: Sequence[int]) -> None:
        self._runtime = runtime
        starts = np.cumsum([0, *sizes])
        self._starts = runtime.empty(starts.shape, np.int64)
        runtime.upload(starts, self._starts)
        self.partial_squares = runtime.zeros((min(_BLOCKS, blocks(sum(sizes), _CHUNK)),))

    def gather(self, found: Sequence[Array], grad: Array) -> None:
        """Write the gradients ``found``, one of each parameter, into ``grad``, flat.

        Raises:
            ValueError: they are more or fewer.
        """
        if len(found) != len(self._starts) - 1:
            raise ValueError(f"{len(self._starts) - 1} gradients were expected: got {len(found)}")
        packed = [contiguous(array) for array in found]
        addresses = np.array([self._runtime.address(array) for array in packed], np.uint64)
        sources = self._runtime.constant(addresses)
        function = self._runtime.function("gradients.cu", "gather")
        args = sources, self._starts, grad, self.partial_squares, len(packed), grad.size
        self._runtime.launch(function, (len(self.partial_squares),), (_THREADS,), args)
