"""Self-attention on a GPU: twin of ``ops.attention``. The way is told in ``attention.cu``."""

from __future__ import annotations

import math
from typing import NamedTuple, final

from tinyddpm.arrays import Array
from tinyddpm.kernels.cuda.runtime import Function, Precision, Runtime, blocks, contiguous
from tinyddpm.ops.attention import QkvOrder

_TILE, _THREADS = 64, 128
# How many columns of a head a block can take: the sums of more do not fit into its registers.
_WIDTHS: dict[Precision, tuple[int, ...]] = {
    "fp32": (8, 32, 64, 128),
    "tf32": (8, 32, 64, 256),
    "bf16": (8, 32, 64, 256),
}


def attention_defines(width: int, precision: Precision) -> dict[str, int]:
    """Return the constants of the kernels for heads of ``width``."""
    widths = _WIDTHS[precision]
    fitting = next((columns for columns in widths if width <= columns), widths[-1])
    return {"WIDTH": fitting, "TENSOR": int(precision != "fp32")}


class AttentionSaved(NamedTuple):
    """The input and the output themselves, and N·A·L logarithms."""

    qkv: Array  # (N, L, 3C)
    y: Array  # (N, L, C)
    lse: Array  # (N, A, L), to base 2
    qkv_order: QkvOrder


class _Shape(NamedTuple):
    """What every kernel is told, in its order."""

    tokens: int
    heads: int
    width: int
    part: int  # from q to k to v in a token's 3C numbers
    head: int  # from head to head


@final
class Attention:
    """The kernels of one runtime.

    For ``bf16`` too products are of TF32: they are few, and what softmax sees had better be exact.
    """

    def __init__(self, runtime: Runtime, precision: Precision) -> None:
        self._runtime, self._precision = runtime, precision

    def forward(
        self, qkv: Array, *, heads: int, qkv_order: QkvOrder = "qkv first"
    ) -> tuple[Array, AttentionSaved]:
        """Attend within each image: ``qkv`` (N, L, 3C) to (N, L, C).

        Raises:
            ValueError: ``heads`` does not divide C.
        """
        n, tokens, triple = qkv.shape
        if triple % (3 * heads):
            raise ValueError(f"heads must divide the channels: got C={triple / 3:g}, heads={heads}")
        qkv, empty = contiguous(qkv), self._runtime.empty
        y, lse = empty((n, tokens, triple // 3)), empty((n, heads, tokens))
        shape = _shape(qkv, heads, qkv_order)
        self._launch("attention_forward", qkv, y, lse, shape=shape, scales=(_score_scale(shape),))
        return y, AttentionSaved(qkv, y, lse, qkv_order)

    def backward(self, dy: Array, saved: AttentionSaved) -> Array:
        """Return ``dqkv`` (N, L, 3C) for ``dy`` (N, L, C)."""
        qkv, y, lse, qkv_order = saved
        dy = contiguous(dy)
        shape = _shape(qkv, lse.shape[1], qkv_order)
        delta, dqkv = self._runtime.empty(lse.shape), self._runtime.empty(qkv.shape)
        self._row_products(dy, y, delta, shape)
        scales = (_score_scale(shape), 1 / math.sqrt(shape.width))
        arrays = qkv, dy, lse, delta, dqkv
        self._launch("attention_backward", *arrays, shape=shape, scales=scales, results=3)
        return dqkv

    def _launch(
        self, name: str, *arrays: Array, shape: _Shape, scales: tuple[float, ...], results: int = 1
    ) -> None:
        """A kernel with a block for each tile of tokens (and part of a wide head), head and result,
        and image.
        """
        function, columns = self._function(name, shape.width)
        tiles = blocks(shape.tokens, _TILE) * blocks(shape.width, columns)
        grid = (tiles, shape.heads * results, len(arrays[0]))
        self._runtime.launch(function, grid, (_THREADS,), (*arrays, *shape, *scales))

    def _row_products(self, dy: Array, y: Array, delta: Array, shape: _Shape) -> None:
        function, _ = self._function("attention_row_products", shape.width)
        args = (dy, y, delta, shape.tokens, shape.heads, shape.width, delta.size)
        self._runtime.launch(function, (blocks(delta.size, _THREADS // 32),), (_THREADS,), args)

    def _function(self, name: str, width: int) -> tuple[Function, int]:
        """The kernel for heads of ``width``, and how many of their columns it takes."""
        defines = attention_defines(width, self._precision)
        return self._runtime.function("attention.cu", name, defines), defines["WIDTH"]


def _shape(qkv: Array, heads: int, qkv_order: QkvOrder) -> _Shape:
    _, tokens, triple = qkv.shape
    width = triple // (3 * heads)
    if qkv_order == "qkv first":
        return _Shape(tokens, heads, width, part=heads * width, head=width)
    return _Shape(tokens, heads, width, part=width, head=3 * width)


def _score_scale(shape: _Shape) -> float:
    """1/√D, and log₂ e because the kernels take powers of two."""
    return math.log2(math.e) / math.sqrt(shape.width)
