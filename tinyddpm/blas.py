"""How many threads NumPy's BLAS uses, and how to hold it to one.

Batches are cut into shards that run on workers, one a core (see ``parallel``). A BLAS that starts
threads of its own inside each of them would only get in the way, and could change the order of its
sums with their number.
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
_CORENAMES = tuple(get.replace("num_threads", "corename") for get, _ in _OPENBLAS_NAMES)


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


def blas_name() -> str:
    """Return name and version of NumPy's BLAS, and for which processor its kernels are, if known.

    Those decide its speed; OPENBLAS_CORETYPE can name others before Python starts.
    """
    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    name = f"{blas['name']} {blas['version']}"
    for library in _bundled_libraries():
        for corename in _CORENAMES:
            if hasattr(library, corename):
                tell = getattr(library, corename)
                tell.restype = ctypes.c_char_p
                return f"{name} with kernels for {tell().decode()}"
    return name


def _bundled_libraries() -> Iterator[ctypes.CDLL]:
    """OpenBLAS beside NumPy: in numpy.libs on Linux and Windows, in numpy/.dylibs on macOS."""
    package = Path(np.__file__).parent
    for folder in (package.with_name("numpy.libs"), package / ".dylibs"):
        yield from (ctypes.CDLL(str(path)) for path in sorted(folder.glob("*openblas*")))


def _bundled_openblas() -> BlasThreads | None:
    for library in _bundled_libraries():
        for get, set_ in _OPENBLAS_NAMES:
            if hasattr(library, get) and hasattr(library, set_):
                means = Path(library._name).name
                return BlasThreads(getattr(library, get), getattr(library, set_), means)
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
