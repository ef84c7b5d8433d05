"""The three products of a convolution, launched in one of three precisions.

tf32 and bf16 run on tensor cores (``conv2d.cu``), fp32 on the ordinary ones (``conv2d_fp32.cu``).
Results are float32; those of bf16 that a norm alone will read are bf16. Tiles and grids are chosen
from the shapes alone, so that every card adds up in the same order.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple, final

import numpy as np
import numpy.typing as npt

from tinyddpm.arrays import Array
from tinyddpm.kernels.cuda.operands import C_NAMES, FORMATS, Operand, left_to_a_norm
from tinyddpm.kernels.cuda.runtime import (
    Argument,
    Dim3,
    Precision,
    Runtime,
    blocks,
    contiguous,
)
from tinyddpm.kernels.cuda.source import Defines

_BLOCKS = 264  # keep a large card busy: two for each of 132 multiprocessors
_PART = 512  # pixels: a shorter part of a sum over pixels is not worth a block


class Tile(NamedTuple):
    """The part of a product that one block computes with its warps, and its ring of buffers.

    ``blocks`` of them must find registers on one multiprocessor.
    """

    m: int
    n: int
    warps_m: int
    warps_n: int
    stages: int
    blocks: int

    @property
    def threads(self) -> int:
        """Of a block."""
        return 32 * self.warps_m * self.warps_n

    @property
    def shared_bytes(self) -> int:
        """Of a block: rows of 64 bytes, and 1024 for the weight gradient's gaps between rows."""
        return self.stages * (64 * (self.m + self.n) + 1024)

    def number(self, m: int, n: int) -> int:
        """The number of tiles that cover m × n."""
        return blocks(m, self.m) * blocks(n, self.n)


HUGE = Tile(256, 128, 4, 2, stages=3, blocks=1)  # in bf16, 85 operations a byte copied
LARGE = Tile(128, 128, 2, 4, stages=4, blocks=2)  # 64
MIDDLE = Tile(128, 64, 2, 2, stages=3, blocks=4)  # 43
NARROW = Tile(128, 32, 4, 1, stages=4, blocks=5)  # 26
SMALL = Tile(64, 64, 2, 2, stages=4, blocks=5)  # 32
TILES = (HUGE, LARGE, MIDDLE, NARROW, SMALL)
FP32 = Tile(64, 64, 8, 1, stages=0, blocks=0)  # as written in conv2d_fp32.cu


def tile_for(m: int, n: int, copies: int) -> Tile:
    """The tile for m × n, ``copies`` times: as wide as n, or small where blocks would be few.

    A huge one has a multiprocessor to itself, and is worth it where all have nearly two to do.
    """
    if n <= NARROW.n:
        return NARROW
    tile = MIDDLE if n <= MIDDLE.n else LARGE
    if tile is LARGE and m % HUGE.m == 0 and copies * HUGE.number(m, n) >= 0.9 * _BLOCKS:
        return HUGE
    return tile if copies * tile.number(m, n) >= _BLOCKS // 2 else SMALL


def conv2d_defines(precision: Precision, tile: Tile, result: npt.DTypeLike = np.float32) -> Defines:
    """The constants of ``conv2d.cu``."""
    return {
        "OPERAND": FORMATS[precision].c_name,
        "RESULT": C_NAMES[np.dtype(result).name],
        "MULTIPLY": f"mma_{precision}",
        "TILE_M": tile.m,
        "TILE_N": tile.n,
        "WARPS_M": tile.warps_m,
        "WARPS_N": tile.warps_n,
        "STAGES": tile.stages,
        "BLOCKS": tile.blocks,
    }


class Geometry(NamedTuple):
    """A convolution (H, W) -> (h, w): its kernel, its stride, and the zeros before the image."""

    kernel: tuple[int, int]
    stride: int
    before: int
    source: tuple[int, int]
    result: tuple[int, int]


@final
class Products:
    """The products in one precision."""

    def __init__(self, runtime: Runtime, precision: Precision) -> None:
        self._runtime, self._precision = runtime, precision

    def convolve(
        self,
        x: Operand,
        weight: Operand,
        geometry: Geometry,
        bias: Array | None = None,
        *,
        residual: Array | None = None,
        transpose: bool = False,
        to_norm: bool = False,
    ) -> Array:
        """Return y (N, h, w, D) for ``x`` (N, H, W, C) and ``weight`` (D, kh, kw, C).

        What is added is ``bias``, (D,) or (N, D), and ``residual``, (N, h, w, D) or (D,).
        ``transpose`` exchanges (H, W) and (h, w): y is then what the transpose gives for ``x``.
        ``to_norm`` says that a norm alone reads y: see ``operands.left_to_a_norm`` for its type.

        Raises:
            ValueError: ``x`` has another size or other channels, or ``bias`` or ``residual``
                another shape.
        """
        kernel, stride, before, source, result = geometry
        if transpose:
            source, result = result, source
        n, *size, c = x.values.shape
        if (*size, x.channels) != (*source, weight.channels):
            raise ValueError(
                f"a convolution of {source[0]} × {source[1]} pixels of {weight.channels} channels "
                f"was given {(n, *size, x.channels)}"
            )
        d = len(weight.values)
        phases = stride if transpose else 1  # along either axis
        m = n * blocks(result[0], phases) * blocks(result[1], phases)
        tile = self._tile(m, d, copies=phases * phases)
        written = left_to_a_norm(self._precision, d) if to_norm else np.float32
        y = self._runtime.empty((n, *result, d), written)
        if bias is not None and bias.shape not in {(d,), (n, d)}:
            raise ValueError(f"the bias must have shape {(d,)} or {(n, d)}: got {bias.shape}")
        if residual is not None and residual.shape not in {y.shape, (d,)}:
            raise ValueError(
                f"the residual must have shape {y.shape} or {(d,)}: got {residual.shape}"
            )
        added = [array if array is None else contiguous(array) for array in (bias, residual)]
        to_next_bias = d if bias is not None and bias.ndim == 2 else 0
        to_next_residual = d if residual is not None and residual.ndim == 4 else 0
        to_next = (to_next_bias, to_next_residual)
        sizes = (n, *source, c, *result, d, *kernel, stride, before)
        args = (x.values, weight.values, *added, y, *to_next, int(transpose), *sizes)
        grid = (tile.number(m, d), 1, phases * phases)
        self._launch("convolve", tile, grid, args, written)
        return y

    def weight_gradient(self, x: Operand, dy: Operand, geometry: Geometry) -> Array:
        """Return dweight for ``x`` (N, H, W, C) and ``dy`` (N, h, w, D), as parts to be added up:
        (P, kh, kw, C, D).
        """
        kernel, stride, before, source, result = geometry
        n, c, d = len(x.values), x.values.shape[-1], dy.values.shape[-1]
        m, most = math.prod(kernel) * c, max(1, n * math.prod(result) // _PART)
        tile = self._tile(m, d, copies=most)
        count = tile.number(m, d)
        parts = max(1, min(most, _BLOCKS // count))
        partial = self._runtime.empty((parts, *kernel, x.channels, dy.channels))
        sizes = (n, *source, c, x.channels, *result, d, dy.channels, *kernel, stride, before)
        self._launch(
            "weight_gradient", tile, (count, 1, parts), (x.values, dy.values, partial, *sizes)
        )
        return partial

    def _tile(self, m: int, n: int, copies: int) -> Tile:
        return FP32 if self._precision == "fp32" else tile_for(m, n, copies)

    def _launch(
        self,
        name: str,
        tile: Tile,
        grid: Dim3,
        args: Sequence[Argument],
        written: npt.DTypeLike = np.float32,
    ) -> None:
        if self._precision == "fp32":
            function = self._runtime.function("conv2d_fp32.cu", name)
        else:
            defines = conv2d_defines(self._precision, tile, written)
            function = self._runtime.function("conv2d.cu", name, defines)
        block = (tile.threads,)
        self._runtime.launch(function, grid, block, args, shared_bytes=tile.shared_bytes)
