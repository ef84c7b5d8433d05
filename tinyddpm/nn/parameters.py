"""The parameters of a network: named views into one flat buffer of values and one of gradients.

Flat buffers let the optimiser, the checkpoint and the moving average treat any network as one
vector.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Self, cast, final

import numpy as np
import numpy.typing as npt

from tinyddpm import rng
from tinyddpm.arrays import Array, xp_of


@final
class Slot:
    """Stands in for a parameter's ``grad``, and keeps the array that a layer adds to it.

    Nothing is copied. A slot that has been emptied holds no memory until the next backward.

    Attributes:
        taken: the gradient; None before a backward.
    """

    def __init__(self) -> None:
        self.taken: Array | None = None

    def __iadd__(self, gradient: Array) -> Self:
        """Take ``gradient``, or add it to what was taken before."""
        self.taken = gradient if self.taken is None else self.taken + gradient
        return self

    def emptied(self) -> Array:
        """Return the gradient, and forget it.

        Raises:
            ValueError: there is none.
        """
        taken, self.taken = self.taken, None
        if taken is None:
            raise ValueError("a parameter got no gradient")
        return taken


def empty_slots(slots: Iterable[Slot]) -> None:
    """Drop what a backward that was interrupted has left in ``slots``."""
    for slot in slots:
        slot.taken = None


class _Buffered:
    """What is assigned to ``value`` or ``grad`` is written into the buffer, for that is where the
    network and the optimiser look.
    """

    __slots__ = ("_grad", "_value")

    _value: Array
    _grad: Array

    @property
    def value(self) -> Array:
        """The values: the flat buffer, or a view into it."""
        return self._value

    @value.setter
    def value(self, value: Array) -> None:
        if value is not self._value:  # as after ``value *= 2``, which has written already
            self._value[...] = value

    @property
    def grad(self) -> Array:
        """The gradients, in the same places."""
        return self._grad

    @grad.setter
    def grad(self, grad: Array) -> None:
        if grad is not self._grad:
            self._grad[...] = grad


@final
class Parameter(_Buffered):
    """One named tensor: ``value`` and ``grad`` are views into the flat buffers, or ``grad`` is a
    ``Slot``.

    Attributes:
        fill: the initial value is ``fill`` plus a uniform draw from (−bound, bound).
        prepared: the value in the form that the kernels want it (see ``ops.kernels``).
    """

    __slots__ = ("bound", "fill", "name", "prepare", "prepared", "shape")

    prepared: Any

    def __init__(
        self,
        name: str,
        shape: tuple[int, ...],
        *,
        fill: float = 0.0,
        bound: float = 0.0,
        prepare: Callable[[Array], Any] | None = None,
    ) -> None:
        self.name, self.shape = name, shape
        self.fill, self.bound = fill, bound
        self.prepare = prepare

    @property
    def size(self) -> int:
        """The number of elements."""
        return math.prod(self.shape)


@final
class Parameters(_Buffered):
    """The parameters of one network, in the order in which its layers asked for them.

    ``value`` and ``grad`` are the flat buffers.
    """

    def __init__(self) -> None:
        self._list: list[Parameter] = []

    def __iter__(self) -> Iterator[Parameter]:
        """Walk the parameters in their order."""
        return iter(self._list)

    def add(self, parameter: Parameter) -> Parameter:
        """Take ``parameter`` in; its views exist after ``bind``."""
        self._list.append(parameter)
        return parameter

    @property
    def count(self) -> int:
        """The number of scalars."""
        return sum(p.size for p in self)

    def named(self) -> dict[str, Parameter]:
        """Return the parameters by name."""
        return {p.name: p for p in self}

    def initial_values(self, seed: int, dtype: npt.DTypeLike) -> Array:
        """Draw the flat initial values, (count,); each parameter's depend on its place and seed."""
        flat = np.empty(self.count, dtype)
        start = 0
        for index, p in enumerate(self):
            stop = start + p.size
            flat[start:stop] = p.fill
            if p.bound:
                u = rng.uniform(seed, "init", step=0, samples=np.array([index]), shape=(p.size,))
                flat[start:stop] += p.bound * (2 * u[0] - 1)
            start = stop
        return flat

    def bind(self, value: Array, grad: Array | None = None) -> None:
        """Make all values and gradients views of the flat buffers ``value`` and ``grad``.

        Both are (count,); without a ``grad`` a new one of zeros is made.

        Raises:
            ValueError: one of them is of another shape.
        """
        grad = xp_of(value).zeros_like(value) if grad is None else grad
        for what, flat in (("values", value), ("gradients", grad)):
            if flat.shape != (self.count,):
                raise ValueError(f"flat {what} must have shape ({self.count},): got {flat.shape}")
        self._value, self._grad = value, grad
        start = 0
        for p in self:
            stop = start + p.size
            p._value = value[start:stop].reshape(p.shape)
            p._grad = self.grad[start:stop].reshape(p.shape)
            start = stop
        self.prepare()

    def open_slots(self) -> list[Slot]:
        """Replace every parameter's ``grad`` by a slot, until ``bind``; return the slots."""
        slots = [Slot() for _ in self]
        for p, slot in zip(self, slots, strict=True):
            p._grad = cast(Array, slot)  # all that a layer does with it is +=
        return slots

    def prepare(self) -> None:
        """Bring ``prepared`` up to date with ``value``: once after every change of the values."""
        for p in self:
            p.prepared = p.prepare(p.value) if p.prepare else p.value

    def adopt_prepared(self, other: Parameters) -> None:
        """Take over what ``other``, which shares the values, has prepared."""
        for mine, theirs in zip(self, other, strict=True):
            mine.prepared = theirs.prepared
