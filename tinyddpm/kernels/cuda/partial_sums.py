"""Partial sums of many blocks, added up in an order that depends on their number alone.

What the sum is needed for decides when it is formed: ``summed`` does so at once, by a launch of its
own. A parameter's gradient may wait. With ``AtTheEnd`` it is left to the kernel that gathers all of
them (see ``gradients``), and the product that it is the sum of is formed beside what follows: the
rest of the backward does without it, and a small network's kernels have too few blocks for a card.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, final

from tinyddpm.arrays import Array
from tinyddpm.kernels.cuda.runtime import Runtime, blocks

_WAITING = 1 << 23  # bytes of a sum's parts that may wait: large weights' would fill the memory


@dataclass(frozen=True)
class InParts:
    """A sum that is yet to be formed, over the first axis of ``parts``; no part has gaps."""

    parts: Array  # (P, …)

    def __getitem__(self, i: int) -> InParts:
        """Entry ``i`` of the sum."""
        return InParts(self.parts[:, i])


Gradient = Array | InParts


class Sums(Protocol):
    """When gradients of parameters are formed."""

    def sum_up(self, partial: Array) -> Gradient:
        """Return the sum of ``partial`` over its first axis."""

    def product(self, compute: Callable[[], Array]) -> Gradient:
        """Return the sum of what ``compute`` gives, over its first axis."""


@final
class AtOnce:
    """They are formed before all that follows, which may read them."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    def sum_up(self, partial: Array) -> Array:
        """Return the sum of ``partial`` over its first axis."""
        return summed(self._runtime, partial)

    def product(self, compute: Callable[[], Array]) -> Array:
        """Return the sum of what ``compute`` gives, over its first axis."""
        return self.sum_up(compute())


@final
class AtTheEnd:
    """They may be read after ``Runtime.meet``."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    def sum_up(self, partial: Array) -> Gradient:
        """Return the sum of ``partial`` over its first axis, in parts if these are small enough."""
        return InParts(partial) if partial.nbytes <= _WAITING else summed(self._runtime, partial)

    def product(self, compute: Callable[[], Array]) -> Gradient:
        """Return the sum of what ``compute`` gives, over its first axis, formed beside the rest."""
        return self._runtime.beside(lambda: self.sum_up(compute()))


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
