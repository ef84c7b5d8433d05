"""What computes the layers, and on what kind of worker."""

from __future__ import annotations

from functools import cache

from tinyddpm.kernels.cpu import cpu
from tinyddpm.kernels.cpu.memory import keep_pages
from tinyddpm.kernels.cuda.cupy_runtime import CupyRuntime
from tinyddpm.kernels.cuda.runtime import Precision
from tinyddpm.kernels.cuda.table import cuda_table
from tinyddpm.nn.unet import UNet
from tinyddpm.ops.kernels import Kernels

_SMALL = 4_000_000  # parameters


def kernels_for(device: str, precision: Precision = "fp32") -> Kernels:
    """Return the fastest table for ``device``; ``precision`` is that of products on a GPU."""
    if device == "cuda":
        return cuda_table(cuda_runtime(), precision)
    keep_pages()
    return cpu


def suits_processes(network: UNet) -> bool:
    """Whether processes should train ``network``, and not threads.

    Processes do not wait for each other's Python. But after each step every process transforms the
    weights of the convolutions for itself, which takes time and memory: only a small network gains.
    (Predictions transform the weights once, so processes make them for any network.)
    """
    return network.parameters.count <= _SMALL


def cuda_runtime() -> CupyRuntime:
    """Return the one runtime of this process, for the calling thread to use."""
    runtime = the_runtime()
    runtime.use()
    return runtime


@cache
def the_runtime() -> CupyRuntime:
    """All work of this process goes to one stream."""
    return CupyRuntime()
