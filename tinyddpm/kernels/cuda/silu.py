"""SiLU on a GPU: twin of ``ops.silu``. What else is elementwise is left to CuPy.

Dense layers follow. Where it can, it writes what they multiply (see ``operands.written_as``): once
for all that take it.
"""

from __future__ import annotations

from typing import final

import numpy as np
import numpy.typing as npt

from tinyddpm.arrays import Array
from tinyddpm.kernels.cuda.operands import C_NAMES, written_as
from tinyddpm.kernels.cuda.runtime import Precision, Runtime, blocks, contiguous
from tinyddpm.kernels.cuda.source import Defines
from tinyddpm.ops.silu import SiluSaved

_THREADS = 256


def silu_defines(result: npt.DTypeLike) -> Defines:
    """The constants of ``silu.cu``."""
    return {"RESULT": C_NAMES[np.dtype(result).name]}


@final
class Silu:
    """The kernels of one runtime; ``precision`` is of a product that takes the result as it is
    written.
    """

    def __init__(self, runtime: Runtime, precision: Precision = "fp32") -> None:
        self._runtime, self._precision = runtime, precision

    def forward(self, x: Array) -> tuple[Array, SiluSaved]:
        """Return x · sigmoid(x), elementwise."""
        x = contiguous(x)
        written = written_as(self._precision, x.shape[-1])
        return self._elementwise("silu", x, written=written), SiluSaved(x)

    def backward(self, dy: Array, saved: SiluSaved) -> Array:
        """Return ``dx``."""
        return self._elementwise("silu_backward", contiguous(dy), saved.x)

    def _elementwise(self, name: str, *arrays: Array, written: npt.DTypeLike = np.float32) -> Array:
        result = self._runtime.empty(arrays[0].shape, written)
        function = self._runtime.function("silu.cu", name, silu_defines(written))
        grid = (blocks(result.size, _THREADS),)
        self._runtime.launch(function, grid, (_THREADS,), (*arrays, result, result.size))
        return result
