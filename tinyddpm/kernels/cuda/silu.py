"""SiLU on a GPU: twin of ``ops.silu``. What else is elementwise is left to CuPy."""

from __future__ import annotations

from typing import final

from tinyddpm.arrays import Array
from tinyddpm.kernels.cuda.runtime import Runtime, blocks, contiguous
from tinyddpm.ops.silu import SiluSaved

_THREADS = 256


@final
class Silu:
    """The kernels of one runtime."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    def forward(self, x: Array) -> tuple[Array, SiluSaved]:
        """Return x · sigmoid(x), elementwise."""
        x = contiguous(x)
        return self._elementwise("silu", x), SiluSaved(x)

    def backward(self, dy: Array, saved: SiluSaved) -> Array:
        """Return ``dx``."""
        return self._elementwise("silu_backward", contiguous(dy), saved.x)

    def _elementwise(self, name: str, *arrays: Array) -> Array:
        result = self._runtime.empty(arrays[0].shape)
        function = self._runtime.function("silu.cu", name)
        grid = (blocks(result.size, _THREADS),)
        self._runtime.launch(function, grid, (_THREADS,), (*arrays, result, result.size))
        return result
