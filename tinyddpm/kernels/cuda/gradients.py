"""The gradients of all parameters, gathered into one flat buffer by one kernel.

A layer adds what it found to its parameter's ``grad``. Done one by one that is a launch for each
parameter, and for a small network a good part of the step. So here a slot stands in the place of
``grad``: it takes the array as it is, and at the end one kernel copies all of them to where they
belong, and begins the sum of their squares on the way.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self, final

import numpy as np

from tinyddpm.arrays import Array
from tinyddpm.kernels.cuda.runtime import Runtime, blocks, contiguous

_THREADS, _CHUNK, _BLOCKS = 256, 4096, 512


@final
class Slot:
    """Stands for the ``grad`` of one parameter during a backward pass."""

    def __init__(self) -> None:
        self.taken: Array | None = None

    def __iadd__(self, gradient: Array) -> Self:
        """Take ``gradient``, or add it to what was taken before."""
        self.taken = gradient if self.taken is None else self.taken + gradient
        return self


@final
class Gradients:
    """Slots for parameters of the given ``sizes``, in the order of the flat buffer.

    Attributes:
        slots: one for each parameter.
        partial_squares: sums of squares of the gradient, which together are that of all of it.
    """

    def __init__(self, runtime: Runtime, sizes: Sequence[int]) -> None:
        self._runtime = runtime
        self.slots = [Slot() for _ in sizes]
        starts = np.cumsum([0, *sizes])
        self._starts = runtime.empty(starts.shape, np.int64)
        runtime.upload(starts, self._starts)
        self.partial_squares = runtime.zeros((min(_BLOCKS, blocks(sum(sizes), _CHUNK)),))

    def gather(self, grad: Array) -> None:
        """Write what the slots took into ``grad``, flat, and empty them.

        Raises:
            ValueError: a slot took nothing.
        """
        taken = [contiguous(slot.taken) for slot in self.slots if slot.taken is not None]
        if len(taken) < len(self.slots):
            raise ValueError(f"{len(self.slots) - len(taken)} parameters got no gradient")
        addresses = np.array([self._runtime.address(array) for array in taken], np.uint64)
        sources = self._runtime.constant(addresses)
        function = self._runtime.function("gradients.cu", "gather")
        args = sources, self._starts, grad, self.partial_squares, len(taken), grad.size
        self._runtime.launch(function, (len(self.partial_squares),), (_THREADS,), args)
        for slot in self.slots:
            slot.taken = None
