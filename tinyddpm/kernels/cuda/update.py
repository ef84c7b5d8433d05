"""The update of a training step on the device.

Adam, clipping, the moving average and the learning rate are those of ``optim``; here the numbers
that change from step to step are computed on the device, from the step that stands in ``state``.
"""

from __future__ import annotations

from typing import NamedTuple, final

import numpy as np

from tinyddpm.arrays import Array
from tinyddpm.kernels.cuda.loss import ROWS
from tinyddpm.kernels.cuda.runtime import Runtime, blocks
from tinyddpm.kernels.cuda.source import Defines

BETA1, BETA2, ADAM_EPS = 0.9, 0.999, 1e-8  # as the defaults of optim.adam
_THREADS = 256


class Recipe(NamedTuple):
    """What the update depends on beside the step."""

    lr: float
    warmup: int
    decay_from: int
    grad_clip: float
    ema_decay: float


class Buffers(NamedTuple):
    """The flat buffers of a network, of one length and on one device."""

    value: Array
    grad: Array
    m: Array
    v: Array
    ema: Array


UPDATE_DEFINES: Defines = {"ROWS": ROWS}  # the constants of ``update.cu``


@final
class Updates:
    """The update of ``buffers`` by ``recipe``, where the last steps' ``losses`` are finite.

    Attributes:
        state: (2,) uint32 on the device: the step, counted from 1, and the step that failed.
        norms: (ROWS,) on the device, of the gradients of the last steps before clipping.
    """

    def __init__(self, runtime: Runtime, buffers: Buffers, losses: Array, recipe: Recipe) -> None:
        self._runtime, self._buffers, self._recipe = runtime, buffers, recipe
        self._losses, self.norms = losses, runtime.zeros((ROWS,))
        self.state = runtime.zeros((2,), np.uint32)
        self._scalars = runtime.zeros((4,))

    def begin_at(self, step: int) -> None:
        """Make ``step`` the next one."""
        self._runtime.upload(np.array([step, 0], np.uint32), self.state)

    def apply(self, partial_squares: Array) -> None:
        """Clip, update the values and their average, and go on to the next step.

        Where the loss or the gradient is not finite nothing is updated, then or later.

        Args:
            partial_squares: they add up to the square of the gradient's norm.
        """
        value, grad, m, v, ema = self._buffers
        recipe, batch, count = self._recipe, self._losses.shape[1], value.size
        scalars = partial_squares, self._losses, self.state, self.norms, self._scalars
        rate = recipe.lr, float(recipe.warmup), float(recipe.decay_from)
        rates = *rate, recipe.grad_clip, BETA1, BETA2, recipe.ema_decay
        self._launch(
            "begin_update", (1,), (*scalars, partial_squares.size, batch, *rates), threads=32
        )
        buffers = grad, value, m, v, ema, self._scalars, self.state
        weights = BETA1, 1 - BETA1, BETA2, 1 - BETA2, ADAM_EPS
        self._launch("adam_ema", (blocks(count, _THREADS),), (*buffers, *weights, count))

    def _launch(
        self,
        name: str,
        grid: tuple[int, ...],
        args: tuple[Array | float, ...],
        threads: int = _THREADS,
    ) -> None:
        function = self._runtime.function("update.cu", name, UPDATE_DEFINES)
        self._runtime.launch(function, grid, (threads,), args)
