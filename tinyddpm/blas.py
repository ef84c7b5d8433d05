"""How many threads NumPy's BLAS uses, and how to hold it to one.

Batches are cut into shards that run on Python threads, one shard a core (see ``parallel``). A BLAS
that starts threads of its own inside each of them would only get in the way, and could change the
order of its sums with their number.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np

# Names under which builds of OpenBLAS export the pair (get, set): NumPy's own wheels come first.
_OPENBLAS_NAMES = (
    ("scipy_openblas_get_num_threads64_", "scipy_openblas_set_num_threads64_"),
    ("scipy_openblas_get_num_threads", "scipy_openblas_set_num_threads"),
    ("openblas_get_num_threads64_", "openblas_set_num_threads64_"),
    ("openblas_get_num_threads", "openblas_set_num_threads"),
)


class BlasThreads(NamedTuple):
    """The BLAS's thread count: how to read and set it, and by what means that is done."""

    get: Callable[[], int]
    set: Callable[[int], None]
    means: str


def blas_threads() -> BlasThreads | None:
    """Return the control of NumPy's BLAS, or None where there is no way to reach it.

    The OpenBLAS that comes with NumPy is called directly; any other BLAS through threadpoolctl, if
    that is installed. Failing both, OPENBLAS_NUM_THREADS=1 can be set before Python starts.
    """
    return _bundled_openblas() or _through_threadpoolctl()


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Hold BLAS to one thread for a while, where that can be done."""
    control = blas_threads()
    if control is None:
        yield
        return
    before = control.get()
    control.set(1)
    try:
        yield
    finally:
        control.set(before)


def _bundled_openblas() -> BlasThreads | None:
    """The library beside NumPy: numpy.libs on Linux and Windows, numpy/.dylibs on macOS."""
    package = Path(np.__file__).parent
    for folder in (package.with_name("numpy.libs"), package / ".dylibs"):
        for path in sorted(folder.glob("*openblas*")):
            library = ctypes.CDLL(str(path))
            for get, set_ in _OPENBLAS_NAMES:
                if hasattr(library, get) and hasattr(library, set_):
                    return BlasThreads(getattr(library, get), getattr(library, set_), path.name)
    return None


def _through_threadpoolctl() -> BlasThreads | None:
    try:
        import threadpoolctl  # noqa: PLC0415  an optional helper
    except ImportError:
        return None
    controller = threadpoolctl.ThreadpoolController().select(user_api="blas")
    if not controller.lib_controllers:
        return None
    blas = controller.lib_controllers[0]
    return BlasThreads(blas.get_num_threads, blas.set_num_threads, "threadpoolctl")
