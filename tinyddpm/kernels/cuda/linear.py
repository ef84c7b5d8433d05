"""A dense layer on a GPU, the 1×1 convolution of an image one row high: twin of ``ops.linear``."""

from __future__ import annotations

from typing import NamedTuple, final

from tinyddpm.arrays import Array
from tinyddpm.kernels.cuda.operands import Operand, Operands, PreparedWeight
from tinyddpm.kernels.cuda.partial_sums import AtOnce, Gradient, Sums
from tinyddpm.kernels.cuda.products import Geometry, Products
from tinyddpm.kernels.cuda.runtime import Precision, Runtime


class LinearSaved(NamedTuple):
    """The input as an operand, and the weight."""

    x: Operand  # (1, 1, rows, C_in)
    weight: PreparedWeight


@final
class Linears:
    """The kernels of one runtime, in one precision; ``sums`` forms the gradients of parameters."""

    def __init__(self, runtime: Runtime, precision: Precision, sums: Sums | None = None) -> None:
        self._sums = sums or AtOnce(runtime)
        self._operands = Operands(runtime, precision, self._sums)
        self._products = Products(runtime, precision)

    def prepare(self, weight: Array) -> PreparedWeight:
        """Take a weight (C_in, C_out) whose values stay as they are for a while."""
        return PreparedWeight(weight[None, None], self._operands)

    def forward(
        self, x: Array, weight: PreparedWeight, bias: Array, *, residual: Array | None = None
    ) -> tuple[Array, LinearSaved]:
        """Map ``x`` (…, C_in) to (…, C_out), and add ``residual``, (…, C_out) or (C_out,)."""
        operand, rows = self._operands.image(_in_a_row(x)), weight.plain.by_out
        y = self._products.convolve(operand, rows, _row(operand), bias, residual=_added(residual))
        return y.reshape(*x.shape[:-1], -1), LinearSaved(operand, weight)

    def backward(
        self, dy: Array, saved: LinearSaved, dskip: Array | None = None
    ) -> tuple[Array, Gradient, Gradient]:
        """Return ``(dx, dweight, dbias)`` for ``dy`` (…, C_out); ``dskip`` is added to dx."""
        x, weight = saved
        operand, dbias = self._operands.image_and_sums(_in_a_row(dy))
        geometry, by_in = _row(operand), weight.plain.by_in
        dweight = self._sums.product(
            lambda: self._products.weight_gradient(x, operand, geometry)[:, 0, 0]
        )
        dx = self._products.convolve(operand, by_in, geometry, residual=_added(dskip))
        return dx.reshape(*dy.shape[:-1], -1), dweight, dbias


def _in_a_row(x: Array) -> Array:
    """``x`` (…, C) as an image of one row, (1, 1, rows, C)."""
    return x.reshape(1, 1, -1, x.shape[-1])


def _added(residual: Array | None) -> Array | None:
    """What is added to an image of one row: one too, or the same to each of its pixels."""
    return residual if residual is None or residual.ndim == 1 else _in_a_row(residual)


def _row(x: Operand) -> Geometry:
    """A 1×1 convolution of ``x``, (1, 1, rows, C)."""
    size = x.values.shape[1:3]
    return Geometry((1, 1), 1, 0, size, size)
