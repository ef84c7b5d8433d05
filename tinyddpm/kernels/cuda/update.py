"""The loss and the update of a training step on the device.

Adam, clipping, the moving average and the learning rate are those of ``optim``; here the numbers
that change from step to step are computed on the device, from the step that stands in ``state``.
"""

from __future__ import annotations

import math
from typing import NamedTuple, final

import numpy as np

from tinyddpm.arrays import Array
from tinyddpm.kernels.cuda.runtime import Runtime, blocks
from tinyddpm.kernels.cuda.source import Defines

ROWS = 64  # steps whose losses are kept for the host
BETA1, BETA2, ADAM_EPS = 0.9, 0.999, 1e-8  # as the defaults of optim.adam
_THREADS, _PARTIALS = 256, 512


class Recipe(NamedTuple):
    """What the update depends on beside the step."""

    lr: float
    warmup: int
    grad_clip: float
    ema_decay: float


class Buffers(NamedTuple):
    """The flat buffers of a network, of one length and on one device."""

    value: Array
    grad: Array
    m: Array
    v: Array
    ema: Array


class Found(NamedTuple):
    """What the last steps found, on the host."""

    losses: Array  # (ROWS, batch), of step s in row s mod ROWS
    norms: Array  # (ROWS,) of the gradient before clipping


def update_defines(*, score: bool) -> Defines:
    """The constants of ``update.cu``."""
    return {"ROWS": ROWS, "SCORE": int(score)}


@final
class Updates:
    """The update of ``buffers`` by ``recipe``, and what it leaves for the host to read.

    Attributes:
        state: (2,) uint32 on the device: the step, counted from 1, and the step that failed.
    """

    def __init__(
        self, runtime: Runtime, buffers: Buffers, batch: int, recipe: Recipe, *, score: bool
    ) -> None:
        self._runtime, self._buffers, self._recipe = runtime, buffers, recipe
        self._defines = update_defines(score=score)
        self.state = runtime.zeros((2,), np.uint32)
        self._scalars = runtime.zeros((4,))
        self._partials = runtime.zeros((_PARTIALS,))
        self._losses, self._norms = runtime.zeros((ROWS, batch)), runtime.zeros((ROWS,))

    def begin_at(self, step: int) -> None:
        """Make ``step`` the next one."""
        self._runtime.upload(np.array([step, 0], np.uint32), self.state)

    def squared_error(
        self, prediction: Array, target: Array, times: Array, noise_rates: Array
    ) -> Array:
        """Note the loss of each image, and return the gradient of their mean by ``prediction``."""
        doutput = self._runtime.empty(prediction.shape)
        arrays = (prediction, target, times, noise_rates, self.state, self._losses, doutput)
        size = math.prod(prediction.shape[1:])
        self._launch("squared_error", (len(prediction),), (*arrays, size))
        return doutput

    def apply(self) -> None:
        """Clip, update the values and their average, and go on to the next step.

        Where the loss or the gradient is not finite nothing is updated, then or later.
        """
        value, grad, m, v, ema = self._buffers
        recipe, batch, count = self._recipe, self._losses.shape[1], value.size
        self._launch("squares", (_PARTIALS,), (grad, self._partials, count))
        scalars = self._partials, self._losses, self.state, self._norms, self._scalars
        rates = recipe.lr, float(recipe.warmup), recipe.grad_clip, BETA1, BETA2, recipe.ema_decay
        self._launch("begin_update", (1,), (*scalars, _PARTIALS, batch, *rates), threads=32)
        buffers = grad, value, m, v, ema, self._scalars, self.state
        weights = BETA1, 1 - BETA1, BETA2, 1 - BETA2, ADAM_EPS
        self._launch("adam_ema", (blocks(count, _THREADS),), (*buffers, *weights, count))

    def found(self) -> Found:
        """Wait for all launches, and return what they found."""
        download = self._runtime.download
        return Found(download(self._losses), download(self._norms))

    def _launch(
        self,
        name: str,
        grid: tuple[int, ...],
        args: tuple[Array | float, ...],
        threads: int = _THREADS,
    ) -> None:
        function = self._runtime.function("update.cu", name, self._defines)
        self._runtime.launch(function, grid, (threads,), args)
