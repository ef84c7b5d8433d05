"""What the times were measured on, and how fast it multiplies matrices."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

import numpy as np

from tinyddpm import __version__
from tinyddpm.benchmark.clock import seconds_of
from tinyddpm.blas import blas_name, blas_threads
from tinyddpm.parallel import Workers, available_cores

_SIDE = 1024  # of the matrices: three of them fill 12 MiB


def description() -> dict[str, Any]:
    """Return processor, cores, the last minute's load, versions, how BLAS is held to one thread."""
    control = blas_threads()
    return {
        "processor": _processor(),
        "cores": available_cores(),
        "load": os.getloadavg()[0],
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "numpy": np.__version__,
        "tinyddpm": __version__,
        "blas": blas_name(),
        "blas_threads_held_by": control.means if control else None,
    }


def _processor() -> str:
    """The processor's name: Python's own is empty on Linux."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def gemm_peak(workers: Workers, *, rounds: int = 10) -> float:
    """Return the most float32 operations a second that products of large matrices reach.

    One runs on each worker, a thread, on one BLAS thread.
    """
    a, b = (np.random.default_rng(s).random((_SIDE, _SIDE), np.float32) for s in (0, 1))
    count = 4 * workers.threads
    outputs = [np.empty_like(a) for _ in range(workers.threads)]

    def multiply(worker: int, _index: int) -> None:
        np.matmul(a, b, out=outputs[worker])

    def all_products() -> None:
        workers.run(count, multiply, lambda _index, _result: None)

    all_products()
    fastest = min(seconds_of(all_products, 1) for _ in range(rounds))
    return count * 2 * _SIDE**3 / fastest
