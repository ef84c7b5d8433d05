"""Convolution, and doubling followed by convolution, on a GPU: twins of ``ops.conv2d`` and
``ops.upsample_conv2d``.

    y = convolve(x, weight) + bias        dx = transpose of convolve(dy, weight)

Doubling followed by a 3×3 convolution is itself the transpose of one: of stride 2 by 4×4, whose
weight is the 3×3 reversed, repeated in a 2×2 square and added up where it overlaps. A pixel meets
two of the four taps along an axis, so that 4 products take the place of 9, and no doubled image is
made. Forward and backward change places:

    y = transpose of convolve(x, folded) + bias        dx = convolve(dy, folded)
"""

from __future__ import annotations

from typing import NamedTuple, final

from tinyddpm.arrays import Array
from tinyddpm.kernels.cuda.between import FromNorm, ToNorm
from tinyddpm.kernels.cuda.joined import Joined
from tinyddpm.kernels.cuda.operands import Operand, Operands, PreparedWeight
from tinyddpm.kernels.cuda.partial_sums import AtOnce, Gradient, Sums, summed
from tinyddpm.kernels.cuda.products import Geometry, Products
from tinyddpm.kernels.cuda.runtime import Precision, Runtime


class Conv2dSaved(NamedTuple):
    """The input as an operand: in bf16, half its bytes."""

    x: Operand  # (N, H, W, C_in)
    weight: PreparedWeight
    geometry: Geometry
    biases: bool  # one for each image
    from_norm: bool  # whether x came as an operand, so that a norm (in fp32, anyone) takes dx


class PreparedGradient(NamedTuple):
    """A gradient that several convolutions take: what each would make of it, made once."""

    operand: Operand  # (N, H, W, C_out)
    sums: Gradient  # (C_out,)


@final
class Convolutions:
    """The kernels of one runtime, in one precision; ``sums`` forms the gradients of parameters."""

    def __init__(self, runtime: Runtime, precision: Precision, sums: Sums | None = None) -> None:
        self._runtime, self._sums = runtime, sums or AtOnce(runtime)
        self._operands = Operands(runtime, precision, self._sums)
        self._products = Products(runtime, precision)

    def prepare(self, weight: Array) -> PreparedWeight:
        """Take a weight (kh, kw, C_in, C_out) whose values stay as they are for a while."""
        return PreparedWeight(weight, self._operands)

    def prepare_for_norm(self, weight: Array) -> PreparedWeight:
        """The same, where a norm alone will read what is convolved with it."""
        return PreparedWeight(weight, self._operands, for_norm=True)

    def prepare_gradient(self, dy: Array) -> PreparedGradient:
        """Take ``dy`` (N, H, W, C_out) for several convolutions."""
        return PreparedGradient(*self._operands.image_and_sums(dy))

    def forward(
        self,
        x: Array | Joined,
        weight: PreparedWeight,
        bias: Array,
        *,
        stride: int = 1,
        pad: tuple[int, int] = (1, 1),
        residual: Array | None = None,
    ) -> tuple[Array | ToNorm, Conv2dSaved]:
        """Convolve ``x`` (N, H, W, C_in) with ``weight`` (kh, kw, C_in, C_out); add ``bias``,
        (C_out,) or of each image (N, C_out), and ``residual``.
        """
        _, height, width, _ = x.shape
        (kh, kw), around = weight.kernel, sum(pad)
        result = (height + around - kh) // stride + 1, (width + around - kw) // stride + 1
        geometry = Geometry(weight.kernel, stride, pad[0], (height, width), result)
        operand = self._operands.image(x)
        rows = weight.plain.by_out
        y = self._products.convolve(
            operand, rows, geometry, bias, residual=residual, to_norm=weight.for_norm
        )
        from_norm = operand.values is x
        saved = Conv2dSaved(operand, weight, geometry, bias.ndim == 2, from_norm)
        return ToNorm(y) if weight.for_norm else y, saved

    def backward(
        self, dy: Array | FromNorm | PreparedGradient, saved: Conv2dSaved
    ) -> tuple[Array, Gradient, Gradient]:
        """Return ``(dx, dweight, dbias)`` for ``dy`` (N, H_out, W_out, C_out)."""
        x, weight, geometry, biases, from_norm = saved
        if isinstance(dy, PreparedGradient):
            operand, dbias = dy
        else:
            operand, dbias = self._operands.image_and_sums(dy, by_image=biases)
        rows = weight.plain.by_in
        dweight = self._sums.product(lambda: self._products.weight_gradient(x, operand, geometry))
        dx = self._products.convolve(operand, rows, geometry, transpose=True, to_norm=from_norm)
        return dx, dweight, dbias

    def upsample_forward(
        self, x: Array, weight: PreparedWeight, bias: Array
    ) -> tuple[Array, Conv2dSaved]:
        """Double ``x`` (N, H, W, C_in), then convolve with ``weight`` (3, 3, C_in, C_out)."""
        height, width = x.shape[1:3]
        geometry = Geometry((4, 4), 2, 1, (2 * height, 2 * width), (height, width))
        operand, rows = self._operands.image(x), weight.folded.by_out
        y = self._products.convolve(operand, rows, geometry, bias, transpose=True)
        return y, Conv2dSaved(operand, weight, geometry, bias.ndim == 2, from_norm=False)

    def upsample_backward(self, dy: Array, saved: Conv2dSaved) -> tuple[Array, Gradient, Gradient]:
        """Return ``(dx, dweight, dbias)`` for ``dy`` (N, 2H, 2W, C_out)."""
        x, weight, geometry, biases, _ = saved
        operand, dbias = self._operands.image_and_sums(dy, by_image=biases)

        def unfolded() -> Array:
            partial = self._products.weight_gradient(operand, x, geometry)
            return self._operands.unfolded(summed(self._runtime, partial))[None]

        dweight = self._sums.product(unfolded)
        dx = self._products.convolve(operand, weight.folded.by_in, geometry)
        return dx, dweight, dbias
