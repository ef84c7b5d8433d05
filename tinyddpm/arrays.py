"""NumPy or CuPy: the one module, besides the CUDA kernels and the benchmark, that knows of CuPy."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from tinyddpm.errors import DeviceError

CUPY_MAJOR = 14  # earlier ones differ in the types of mixed arithmetic
COMPUTE_CAPABILITY = 80  # 8.0: the first with the instructions that the kernels are written in

_CUPY_THAT_FITS = (
    'the CuPy that fits its CUDA, pip install "cupy-cuda12x[ctk]>=14,<15" or '
    '"cupy-cuda13x[ctk]>=14,<15"'
)

# CuPy arrays are typed as NumPy's: the operations used here mean the same on both.
Array = npt.NDArray[Any]
IntArray = npt.NDArray[np.integer[Any]]
Floats = npt.NDArray[np.float64]  # of the host


def xp_of(x: Array) -> ModuleType:
    """Return the module, numpy or cupy, whose functions take ``x``; for a number it is numpy."""
    array: object = x
    if isinstance(array, np.ndarray | np.generic):
        return np
    cupy = sys.modules.get("cupy")  # whoever made an array of the GPU has imported it
    return cupy if cupy is not None and isinstance(array, cupy.ndarray) else np


def resolve_device(device: str) -> str:
    """Turn ``auto``, ``cpu`` or ``cuda`` into ``cpu`` or ``cuda``.

    Raises:
        DeviceError: ``cuda`` was asked for and cannot be used, or the name is unknown.
    """
    if device not in {"auto", "cpu", "cuda"}:
        raise DeviceError(f"unknown device {device!r}", remedy="auto, cpu or cuda")
    if device == "cpu":
        return "cpu"
    obstacle = cuda_obstacle()
    if not obstacle:
        return "cuda"
    if device == "auto":
        return "cpu"
    raise DeviceError(
        "device cuda cannot be used",
        cause=obstacle,
        remedy=f"on a machine with an NVIDIA driver {_CUPY_THAT_FITS}, or --device cpu",
    )


def cuda_obstacle() -> str:
    """Return why CUDA cannot be used here, or an empty string if it can."""
    try:
        import cupy  # noqa: PLC0415  an optional extra, imported only where a GPU is asked for
    except ModuleNotFoundError as error:
        return "CuPy is not installed" if error.name == "cupy" else f"CuPy lacks {error.name}"
    except Exception as error:  # a half-broken installation must not stop those who need no GPU
        return f"CuPy cannot be imported: {type(error).__name__}: {error}"
    if int(cupy.__version__.split(".")[0]) < CUPY_MAJOR:
        return f"CuPy {cupy.__version__} is too old: {CUPY_MAJOR} is needed"
    try:
        return _card_obstacle(cupy)
    except cupy.cuda.runtime.CUDARuntimeError as error:
        return f"CUDA driver: {error}"


def _card_obstacle(cupy: ModuleType) -> str:
    if cupy.cuda.runtime.getDeviceCount() == 0:
        return "no CUDA device was found"
    capability = int(cupy.cuda.Device().compute_capability)
    if capability < COMPUTE_CAPABILITY:
        return (
            f"the GPU is too old: its compute capability is {capability / 10}, "
            f"and {COMPUTE_CAPABILITY / 10} is needed (Ampere, of 2020, or later)"
        )
    return _compiler_obstacle(cupy)


def _compiler_obstacle(cupy: ModuleType) -> str:
    """Why nothing compiles: CuPy installed without ``[ctk]`` lacks headers that it always wants."""
    try:
        compiled(cupy, 'extern "C" __global__ void nothing() {}')
    except DeviceError as error:
        return f"CuPy cannot compile a kernel: {error.cause}"
    return ""


def gpu_failure(error: RuntimeError) -> DeviceError | None:
    """Return what to tell of an ``error`` of CUDA's, or None if it is another's.

    What fails on the GPU is noticed later, by whatever waits for it first.
    """
    cupy = sys.modules.get("cupy")
    if cupy is None:
        return None
    cuda = cupy.cuda
    if not isinstance(error, cuda.runtime.CUDARuntimeError | cuda.driver.CUDADriverError):
        return None
    return DeviceError(
        "the GPU failed in what it was told to do",
        cause=str(error),
        remedy="--device cpu; for a report, CUDA_LAUNCH_BLOCKING=1 shows where it was",
    )


def compiled(cupy: ModuleType, code: str, what: str = "a kernel") -> Any:
    """Return the module that CuPy makes of ``code``, CUDA C.

    Raises:
        DeviceError: it does not compile; the message names ``what``.
    """
    try:
        module = cupy.RawModule(code=code)
        module.compile()
    except (cupy.cuda.compiler.CompileException, RuntimeError, ImportError, OSError) as error:
        raise DeviceError(
            f"CuPy does not compile {what}",
            cause=(str(error).strip() or type(error).__name__).splitlines()[0],
            remedy=f"{_CUPY_THAT_FITS}, or --device cpu",
        ) from error
    return module


def to_device(x: Array, device: str) -> Array:
    """Copy a host array to ``device``, ``cpu``, ``cuda`` or ``auto``; on a CPU it is ``x`` itself.

    Raises:
        DeviceError: as in ``resolve_device``.
    """
    if resolve_device(device) == "cpu":
        return x
    import cupy  # noqa: PLC0415

    on_device: Array = cupy.asarray(x)
    return on_device


def to_host(x: Array) -> Array:
    """Return ``x`` as a NumPy array; a NumPy array is returned as it is."""
    xp = xp_of(x)
    if xp is np:
        return x
    on_host: Array = xp.asnumpy(x)
    return on_host
