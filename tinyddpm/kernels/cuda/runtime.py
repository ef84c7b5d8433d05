"""What a kernel launch needs, whoever carries it out.

``launch`` turns Python numbers into the exact types of the kernel's signature, and refuses arrays
of another type, with gaps, or badly aligned: on a GPU each of these would be silent nonsense.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from tinyddpm.arrays import Array
from tinyddpm.kernels.cuda.source import Defines, Parameter

Argument = Array | int | float | None  # None: a null pointer
Dim3 = tuple[int, ...]
# What products are made of; sums are always float32. In bf16, so is what passes between a product
# and a norm.
Precision = Literal["fp32", "tf32", "bf16"]

T = TypeVar("T")

AHEAD = 8  # launches of a recording that may wait for the device: enough to keep it busy
SHARED_BYTES = 99 * 1024  # what a block may use on every card from sm_80 on
GRID_LIMITS, BLOCK_LIMITS, BLOCK_THREADS = (2**31 - 1, 65535, 65535), (1024, 1024, 64), 1024


@dataclass(frozen=True, eq=False)
class Function:
    """A compiled kernel and its signature; ``handle`` is the runtime's own affair."""

    name: str
    parameters: list[Parameter]
    handle: Any


class Runtime(Protocol):
    """A device: it compiles and launches kernels, and owns memory.

    Launches keep their order, but for those ``beside`` the others.
    """

    def function(self, file: str, name: str, defines: Defines | None = None) -> Function:
        """Return kernel ``name`` of ``file`` in this folder, compiled once for these ``defines``.

        Raises:
            DeviceError: it does not compile, or the card is too old.
        """

    def launch(
        self,
        function: Function,
        grid: Dim3,
        block: Dim3,
        args: Sequence[Argument],
        *,
        shared_bytes: int = 0,
    ) -> None:
        """Run ``function`` on ``grid`` × ``block`` with ``shared_bytes`` of dynamic shared memory.

        Raises:
            TypeError: the arguments are not those of the signature.
            ValueError: the grid, the block or the shared memory are larger than a card allows.
        """

    def beside(self, work: Callable[[], T]) -> T:
        """Do ``work``, whose launches come after those before it, but not before those behind it.

        Until ``meet`` both may run at the same time: those behind may neither write what ``work``
        reads nor read what it writes. What ``work`` refers to is kept as long as that is needed.
        """

    def meet(self) -> None:
        """Let what follows come after all that was done ``beside``."""

    def empty(self, shape: tuple[int, ...], dtype: npt.DTypeLike = np.float32) -> Array:
        """Return an array of this device, its values undefined."""

    def zeros(self, shape: tuple[int, ...], dtype: npt.DTypeLike = np.float32) -> Array:
        """Return an array of zeros of this device."""

    def constant(self, host: Array) -> Array:
        """Return an array of this device that holds ``host``, also where ``record`` records.

        There it is filled once, when the recording ends.
        """

    def address(self, array: Array) -> int:
        """Return where ``array`` lies in the memory of this device."""

    def upload(self, host: Array, into: Array) -> None:
        """Copy a host array into one of this device, in the order of the launches."""

    def download(self, array: Array) -> Callable[[], Array]:
        """Have ``array`` copied to the host, as it is after all launches until now.

        What is returned waits for that, and gives the copy.
        """

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        """Do ``work`` once, and return what does the same again, with the numbers it saw then.

        ``work`` must read all that varies from arrays of this device, and its arrays must have the
        same shapes whenever it is called.

        Raises:
            DeviceError: it does not fit into the device's memory.
        """


def contiguous(x: Array) -> Array:
    """Return ``x`` without gaps: itself, or a copy."""
    return x if x.flags.c_contiguous else x.copy(order="C")


def blocks(count: int, threads: int) -> int:
    """The number of blocks of ``threads`` that cover ``count``."""
    return -(-count // threads)


def check_launch(grid: Dim3, block: Dim3, shared_bytes: int) -> None:
    """Raise ValueError where a card would refuse the launch."""
    for sizes, limits in ((grid, GRID_LIMITS), (block, BLOCK_LIMITS)):
        if not all(0 < size <= limit for size, limit in zip(sizes, limits, strict=False)):
            raise ValueError(f"grid {grid} or block {block} is empty or beyond a card's limits")
    if np.prod(block) > BLOCK_THREADS or shared_bytes > SHARED_BYTES:
        raise ValueError(f"block {block} or {shared_bytes} shared bytes are beyond a card's limits")


def exact_arguments(
    function: Function, args: Sequence[Argument], address: Callable[[Array], int]
) -> list[Array | np.generic | None]:
    """Return ``args`` in the types of the signature; arrays and null pointers as they are.

    Raises:
        TypeError: another number of arguments, or one of another type.
    """
    if len(args) != len(function.parameters):
        raise TypeError(f"{function.name} takes {len(function.parameters)} arguments: {len(args)}")
    exact: list[Any] = []
    for parameter, value in zip(function.parameters, args, strict=True):
        obstacle = _obstacle(parameter, value, address)
        if obstacle:
            raise TypeError(f"{function.name}: {parameter.name} {obstacle}")
        exact.append(value if parameter.pointer else parameter.dtype.type(value))
    return exact


def _obstacle(parameter: Parameter, value: Any, address: Callable[[Array], int]) -> str:
    """Why ``value`` cannot be passed for ``parameter``; empty if it can."""
    if not parameter.pointer:
        kinds = int | np.integer if parameter.dtype.kind in "iu" else float | int | np.floating
        return "" if isinstance(value, kinds) else f"must be a number: got {type(value).__name__}"
    if value is None:
        return ""
    if getattr(value, "dtype", None) != parameter.dtype:
        return f"must be {parameter.dtype}: got {getattr(value, 'dtype', type(value).__name__)}"
    if not value.flags.c_contiguous:
        return f"must be contiguous: got strides {value.strides} for shape {value.shape}"
    if parameter.aligned and address(value) % 16:
        return "must be aligned to 16 bytes"
    return ""
