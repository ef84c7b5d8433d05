"""The one function that chooses what computes the layers."""

from __future__ import annotations

from tinyddpm.kernels.cpu import cpu
from tinyddpm.kernels.cpu.memory import keep_pages
from tinyddpm.ops.kernels import Kernels, reference


def kernels_for(device: str) -> Kernels:
    """Return the fastest table for ``device``; on CUDA the reference ops run on CuPy arrays."""
    if device == "cuda":
        return reference
    keep_pages()
    return cpu
