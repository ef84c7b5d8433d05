"""Times drawn by importance, on the device: ``diffusion.timestep_sampling.SecondMomentTimes``.

What a step draws depends on the losses of the steps before it, which the host sees much later. So
the device learns by itself, and the host follows when it reads the losses. Both draw the same, but
for the times, one in 10¹¹ or so, that lie at a boundary within the rounding of p.
"""

from __future__ import annotations

from typing import final

import numpy as np

from tinyddpm.arrays import Array
from tinyddpm.kernels.cuda.batch import stream_defines
from tinyddpm.kernels.cuda.loss import ROWS
from tinyddpm.kernels.cuda.runtime import Argument, Runtime
from tinyddpm.kernels.cuda.source import Defines

_THREADS = 1024  # of the one block


def second_moment_defines(last: int) -> Defines:
    """The constants of ``second_moment.cu``, where the ``last`` losses at each t count."""
    return {"LAST": last, "ROWS": ROWS, **stream_defines()}


@final
class SecondMoment:
    """What was learnt of the losses at each t, and the times of a batch that are drawn by it.

    Attributes:
        times: (batch,) the paper's t, int32.
        weights: (batch,) what the losses there are to be multiplied by, 1/(T p_t).
    """

    def __init__(
        self, runtime: Runtime, history: tuple[int, int], *, batch: int, seed: int
    ) -> None:
        self._runtime, self._seed = runtime, seed
        self._history = runtime.zeros(history, np.float64)
        self._counts = runtime.zeros(history[:1], np.int32)
        self._cumulative = runtime.empty(history[:1], np.float64)
        self._defines = second_moment_defines(history[1])
        self.times, self.weights = runtime.empty((batch,), np.int32), runtime.empty((batch,))

    def restore(self, state: dict[str, Array]) -> None:
        """Go on from the ``state`` of the host's sampler."""
        self._runtime.upload(state["t_history"], self._history)
        self._runtime.upload(state["t_counts"], self._counts)

    def draw(self, state: Array) -> None:
        """Fill the attributes for step ``state[0]``."""
        learnt = self._history, self._counts, state, self._cumulative
        T, batch = len(self._counts) - 1, len(self.times)
        self._launch("draw_times", *learnt, self.times, self.weights, T, batch, self._seed)

    def learn(self, losses: Array, state: Array) -> None:
        """Take in the ``losses`` (ROWS, batch) of the step before ``state[0]``."""
        learnt = self._history, self._counts
        self._launch("learn_losses", losses, self.times, state, *learnt, len(self.times))

    def _launch(self, name: str, *args: Argument) -> None:
        function = self._runtime.function("second_moment.cu", name, self._defines)
        self._runtime.launch(function, (1,), (_THREADS,), args)
