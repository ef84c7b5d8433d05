"""The steps of a reverse chain on the device, but for the network: what is before and behind it."""

from __future__ import annotations

import math
from typing import NamedTuple, final

import numpy as np

from tinyddpm.arrays import Array
from tinyddpm.kernels.cuda.runtime import Argument, Runtime, blocks
from tinyddpm.kernels.cuda.source import Defines
from tinyddpm.rng import STREAMS, Stream

_THREADS = 256


class ChainTable(NamedTuple):
    """A chain as the kernels walk it.

    Attributes:
        coefficients: (T + 1, 7) of each t; see ``denoise.cu``.
        times: (T + 1,) what the network is given at each t.
        outputs: channels of the network's output for each of the image's: 2 where it has a v.
        learned: σ is computed from v.
    """

    coefficients: Array
    times: Array
    outputs: int
    learned: bool


def denoise_defines(outputs: int, *, learned: bool) -> Defines:
    """The constants of ``denoise.cu``."""
    return {"OUTPUTS": outputs, "LEARNED": int(learned)}


@final
class Denoising:
    """Images on their way from noise, all on the device.

    Args:
        runtime: the device.
        table: the chain.
        shape: (N, H, W, C).
        seed: of the noise.
        stream: of the random numbers.

    Attributes:
        x: (N, H, W, C) x_t, and after a step x_{t−1}.
        x0_hat: the same shape, the image foreseen in the last step.
        times: (N,) what the network is to be given, float32.
    """

    def __init__(
        self,
        runtime: Runtime,
        table: ChainTable,
        shape: tuple[int, int, int, int],
        *,
        seed: int,
        stream: Stream,
    ) -> None:
        self._runtime, self._table = runtime, table
        self._defines = denoise_defines(table.outputs, learned=table.learned)
        self._draw = seed, STREAMS[stream]
        self.x, self.x0_hat = runtime.empty(shape), runtime.empty(shape)
        self.times = runtime.empty(shape[:1])
        self._state = runtime.empty((2,), np.int32)  # t, and the number of the first image
        self._coefficients, self._times = (
            runtime.empty(a.shape) for a in (table.coefficients, table.times)
        )
        runtime.upload(table.coefficients, self._coefficients)
        runtime.upload(table.times, self._times)

    def begin(self, x_T: Array | None = None, first_sample: int = 0) -> None:
        """Go to the chain's end, T, with ``x`` noise, or ``x_T`` (N, H, W, C) of the host.

        The noise is that of the images from number ``first_sample`` on.
        """
        self._runtime.upload(np.array([len(self._table.times), first_sample]), self._state)
        if x_T is not None:
            self._runtime.upload(x_T, self.x)
            return
        n, size = len(self.x), math.prod(self.x.shape[1:])
        args = self.x, self._state, size, *self._draw
        self._launch("first_noise", (n, blocks(size, 4 * _THREADS)), args)

    def next_time(self) -> None:
        """t ← t − 1, from T + 1 at first, and fill ``times``."""
        self._launch("next_time", (1,), (self._state, self._times, self.times, len(self.x)))

    def update(self, output: Array, first: int) -> None:
        """Take the images from ``first`` on, as many as ``output`` has, to t − 1."""
        n, (height, width, channels) = len(output), self.x.shape[1:]
        grid = (n, blocks(height * width * channels, 4 * _THREADS))
        images = self.x[first : first + n], self.x0_hat[first : first + n]
        tables = self._coefficients, self._state
        numbers = height * width, channels, first, *self._draw
        self._launch("denoise", grid, (*images, output, *tables, *numbers))

    def _launch(self, name: str, grid: tuple[int, ...], args: tuple[Argument, ...]) -> None:
        function = self._runtime.function("denoise.cu", name, self._defines)
        self._runtime.launch(function, grid, (_THREADS,), args)
