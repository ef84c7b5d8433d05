"""The loss of each image on the device, and its gradient: ``diffusion.losses`` in one kernel."""

from __future__ import annotations

import math
from typing import NamedTuple, final

from tinyddpm.arrays import Array
from tinyddpm.kernels.cuda.batch import Batches
from tinyddpm.kernels.cuda.runtime import Runtime
from tinyddpm.kernels.cuda.source import Defines

ROWS = 64  # steps whose losses are kept for the host
OBJECTIVES = {"simple": 0, "hybrid": 1, "vlb": 2}
_THREADS = 256


class LossTable(NamedTuple):
    """What the loss is made of.

    Attributes:
        coefficients: (T + 1, 7) of each t; see ``loss.cu``.
        objective: ``simple``, ``hybrid`` or ``vlb``.
        outputs: channels of the network's output for each of the image's: 2 where it has a v.
        score: whether the prediction is a score.
        per_nat: what a nat of L_{t−1} counts in the loss.
    """

    coefficients: Array
    objective: str
    outputs: int
    score: bool
    per_nat: float

    @property
    def defines(self) -> Defines:
        """The constants of ``loss.cu``."""
        objective, outputs, score = OBJECTIVES[self.objective], self.outputs, int(self.score)
        return {"ROWS": ROWS, "OBJECTIVE": objective, "OUTPUTS": outputs, "SCORE": score}


@final
class Losses:
    """The losses of the last steps.

    Attributes:
        rows: (ROWS, batch) on the device, those of step s in row s mod ROWS.
    """

    def __init__(self, runtime: Runtime, table: LossTable, batch: int) -> None:
        self._runtime, self._table = runtime, table
        self._coefficients = runtime.empty(table.coefficients.shape)
        runtime.upload(table.coefficients, self._coefficients)
        self.rows = runtime.zeros((ROWS, batch))

    def gradient(
        self, output: Array, batches: Batches, state: Array, weights: Array | None = None
    ) -> Array:
        """Note the loss of each image of step ``state[0]``; return ``doutput`` of their mean.

        Of the mean of their losses times ``weights`` (batch,), where they are given.
        """
        doutput = self._runtime.empty(output.shape)
        drawn = batches.target, batches.x0, batches.xt, batches.times, weights
        arrays = output, *drawn, self._coefficients, state, self.rows, doutput
        n, *size, channels = batches.xt.shape
        numbers = math.prod(size), channels, self._table.per_nat
        function = self._runtime.function("loss.cu", "image_losses", self._table.defines)
        self._runtime.launch(function, (n,), (_THREADS,), (*arrays, *numbers))
        return doutput
