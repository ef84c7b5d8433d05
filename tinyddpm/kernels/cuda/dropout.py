"""Dropout on a GPU: twin of ``ops.dropout``, and of operands, which a norm writes."""

from __future__ import annotations

from typing import final

import numpy as np

from tinyddpm.arrays import Array
from tinyddpm.kernels.cuda.operands import C_NAMES
from tinyddpm.kernels.cuda.runtime import Runtime, blocks, contiguous
from tinyddpm.kernels.cuda.source import Defines
from tinyddpm.ops.dropout import DropoutSaved

_THREADS = 256
DROPOUT_DEFINES: dict[str, Defines] = {dtype: {"VALUE": name} for dtype, name in C_NAMES.items()}


@final
class Dropout:
    """The kernels of one runtime."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    def forward(self, x: Array, keep: Array, *, rate: float) -> tuple[Array, DropoutSaved]:
        """Zero ``x`` where ``keep`` is false, and scale the rest by 1/(1 − rate).

        Raises:
            ValueError: ``keep`` has another shape.
        """
        return self._dropped(x, keep, rate), DropoutSaved(keep, rate)

    def backward(self, dy: Array, saved: DropoutSaved) -> Array:
        """Return ``dx``."""
        return self._dropped(dy, *saved)

    def _dropped(self, x: Array, keep: Array, rate: float) -> Array:
        if keep.shape != x.shape:
            raise ValueError(f"the mask must have shape {x.shape}: got {keep.shape}")
        x, keep = contiguous(x), contiguous(keep)
        y = self._runtime.empty(x.shape, x.dtype)
        function = self._runtime.function("dropout.cu", "dropout", DROPOUT_DEFINES[x.dtype.name])
        args = x, keep.view(np.uint8), y, 1 / (1 - rate), x.size
        self._runtime.launch(function, (blocks(x.size, 4 * _THREADS),), (_THREADS,), args)
        return y
