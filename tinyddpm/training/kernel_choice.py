"""The one function that chooses what computes the layers."""

from __future__ import annotations

from functools import cache

from tinyddpm.kernels.cpu import cpu
from tinyddpm.kernels.cpu.memory import keep_pages
from tinyddpm.kernels.cuda.cupy_runtime import CupyRuntime
from tinyddpm.kernels.cuda.runtime import Precision
from tinyddpm.kernels.cuda.table import cuda_table
from tinyddpm.ops.kernels import Kernels


def kernels_for(device: str, precision: Precision = "fp32") -> Kernels:
    """Return the fastest table for ``device``; ``precision`` is that of products on a GPU."""
    if device == "cuda":
        return cuda_table(cuda_runtime(), precision)
    keep_pages()
    return cpu


def cuda_runtime() -> CupyRuntime:
    """Return the one runtime of this process, for the calling thread to use."""
    runtime = the_runtime()
    runtime.use()
    return runtime


@cache
def the_runtime() -> CupyRuntime:
    """All work of this process goes to one stream."""
    return CupyRuntime()
