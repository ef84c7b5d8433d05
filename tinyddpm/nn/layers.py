"""Layers: an op of the kernels table together with the parameters it uses.

Weights and biases of linear and convolution layers start uniform in ±1/√fan_in, as PyTorch's do, so
that runs can be compared with the published ones.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple, final

from tinyddpm.arrays import Array
from tinyddpm.nn.parameters import Parameter, Parameters
from tinyddpm.ops.kernels import Joined, Kernels


class Builder(NamedTuple):
    """What a layer needs to come into being: where its parameters go and what computes it."""

    parameters: Parameters
    kernels: Kernels


@final
class Linear:
    """y = x weight + bias over the last axis; ``zero`` starts it at zero."""

    def __init__(
        self, build: Builder, name: str, c_in: int, c_out: int, *, zero: bool = False
    ) -> None:
        bound = 0.0 if zero else c_in**-0.5
        self.kernels, prepare = build.kernels, build.kernels.prepare_linear
        self.weight = build.parameters.add(
            Parameter(f"{name}.weight", (c_in, c_out), bound=bound, prepare=prepare)
        )
        self.bias = build.parameters.add(Parameter(f"{name}.bias", (c_out,), bound=bound))

    def forward(self, x: Array, other_bias: Parameter | None = None) -> tuple[Array, Any]:
        """Map (…, C_in) to (…, C_out); ``other_bias``, which another layer leaves to this one, is
        added as well.
        """
        added = None if other_bias is None else other_bias.value
        return self.kernels.linear(x, self.weight.prepared, self.bias.value, residual=added)

    def forward_onto(self, residual: Array, x: Array) -> tuple[Array, Any]:
        """Return ``residual`` (…, C_out) plus the layer of ``x``; the gradient of ``residual`` is
        ``dy``.
        """
        return self.kernels.linear(x, self.weight.prepared, self.bias.value, residual=residual)

    def backward(
        self,
        dy: Array,
        saved: Any,
        other_bias: Parameter | None = None,
        *,
        dskip: Array | None = None,
    ) -> Array:
        """Return ``dx``; ``dskip``, the gradient of x by its other uses, is added to it."""
        dx: Array
        dx, dweight, dbias = self.kernels.linear_backward(dy, saved, dskip)
        self.weight.grad += dweight
        self.bias.grad += dbias
        if other_bias is not None:
            other_bias.grad += dbias
        return dx


@final
class Conv2d:
    """A convolution with a ``size`` × ``size`` kernel; ``zero`` starts it at zero.

    With ``upsample`` the image is doubled first; size, stride and padding are then 3, 1 and (1, 1).
    ``for_norm`` says that nothing but a norm with SiLU will read the result.
    """

    def __init__(
        self,
        build: Builder,
        name: str,
        c_in: int,
        c_out: int,
        *,
        size: int = 3,
        stride: int = 1,
        pad: tuple[int, int] = (1, 1),
        upsample: bool = False,
        for_norm: bool = False,
        zero: bool = False,
    ) -> None:
        bound = 0.0 if zero else (size * size * c_in) ** -0.5
        kernels = build.kernels
        prepare = kernels.prepare_conv2d_for_norm if for_norm else kernels.prepare_conv2d
        if upsample:
            self.op, self.op_backward = kernels.upsample_conv2d, kernels.upsample_conv2d_backward
        else:
            self.op = partial(kernels.conv2d, stride=stride, pad=pad)
            self.op_backward = kernels.conv2d_backward
        self.weight = build.parameters.add(
            Parameter(
                f"{name}.weight",
                (size, size, c_in, c_out),
                bound=bound,
                prepare=prepare,
            )
        )
        self.bias = build.parameters.add(Parameter(f"{name}.bias", (c_out,), bound=bound))

    def forward(self, x: Array | Joined) -> tuple[Array, Any]:
        """Map (N, H, W, C_in) to (N, H_out, W_out, C_out)."""
        return self.op(x, self.weight.prepared, self.bias.value)

    def forward_onto(self, residual: Array, x: Array) -> tuple[Array, Any]:
        """Return ``residual`` (N, H_out, W_out, C_out) plus the convolution of ``x``; the gradient
        of ``residual`` is ``dy``.
        """
        return self.op(x, self.weight.prepared, self.bias.value, residual=residual)

    def backward(self, dy: Array, saved: Any) -> Array:
        """Return ``dx`` (N, H, W, C_in) for ``dy`` (N, H_out, W_out, C_out)."""
        dx: Array
        dx, dweight, dbias = self.op_backward(dy, saved)
        self.weight.grad += dweight
        self.bias.grad += dbias
        return dx

    def forward_with(self, biases: Array, x: Array) -> tuple[Array, Any]:
        """Convolve ``x``; ``biases`` (N, C_out), one for each image, include the layer's own."""
        return self.op(x, self.weight.prepared, biases)

    def backward_with(self, dy: Array, saved: Any) -> tuple[Array, Array]:
        """Return ``(dx, dbiases)``; the gradient of the layer's own bias is left to whoever added
        it to ``biases``.
        """
        dx, dweight, dbiases = self.op_backward(dy, saved)
        self.weight.grad += dweight
        return dx, dbiases


@final
class GroupNorm:
    """Group normalisation, alone or followed by SiLU (``silu=True``)."""

    def __init__(
        self,
        build: Builder,
        name: str,
        channels: int,
        *,
        groups: int,
        norm_eps: float,
        silu: bool = False,
    ) -> None:
        kernels = build.kernels
        self.op = kernels.group_norm_silu if silu else kernels.group_norm
        self.op_backward = kernels.group_norm_silu_backward if silu else kernels.group_norm_backward
        self.groups, self.norm_eps = groups, norm_eps
        self.weight = build.parameters.add(Parameter(f"{name}.weight", (channels,), fill=1.0))
        self.bias = build.parameters.add(Parameter(f"{name}.bias", (channels,)))

    def forward(self, x: Array | Joined) -> tuple[Array, Any]:
        """Normalise (N, H, W, C)."""
        weight, bias = self.weight.value, self.bias.value
        return self.op(x, weight, bias, groups=self.groups, norm_eps=self.norm_eps)

    def backward(self, dy: Array, saved: Any, dskip: Array | None = None) -> Array | Joined:
        """Return ``dx``; ``dskip``, the gradient of x by its other use, is added to it."""
        dx, dweight, dbias = self.op_backward(dy, saved, dskip)
        self.weight.grad += dweight
        self.bias.grad += dbias
        return dx

    def forward_modulated(self, x: Array, scale: Array, shift: Array) -> tuple[Array, Any]:
        """Normalise (N, H, W, C), times 1 + ``scale``, plus ``shift``, both (N, C); SiLU, if it
        follows, comes last.

        (w x_hat + b)(1 + scale) + shift is a norm with a weight w (1 + scale) and a bias
        b (1 + scale) + shift of each image.
        """
        factor = 1 + scale
        weight, bias = self.weight.value * factor, self.bias.value * factor + shift
        y, normed = self.op(x, weight, bias, groups=self.groups, norm_eps=self.norm_eps)
        return y, (normed, factor)

    def backward_modulated(self, dy: Array, saved: Any) -> tuple[Array, Array, Array]:
        """Return ``(dx, dscale, dshift)``; from the gradients dweight and dbias of each image,

        dw = Σ_n dweight (1 + scale)      db = Σ_n dbias (1 + scale)
        dscale = w dweight + b dbias      dshift = dbias
        """
        normed, factor = saved
        dx, dweight, dbias = self.op_backward(dy, normed)
        self.weight.grad += (dweight * factor).sum(axis=0)
        self.bias.grad += (dbias * factor).sum(axis=0)
        return dx, dweight * self.weight.value + dbias * self.bias.value, dbias
