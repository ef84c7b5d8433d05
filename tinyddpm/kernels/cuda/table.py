"""The ``cuda`` table: the hot ops as kernels of our own, so that a whole step can be captured."""

from __future__ import annotations

from tinyddpm.kernels.cuda.attention import Attention
from tinyddpm.kernels.cuda.conv2d import Convolutions
from tinyddpm.kernels.cuda.dropout import Dropout
from tinyddpm.kernels.cuda.group_norm import GroupNorm
from tinyddpm.kernels.cuda.joined import join, join_backward
from tinyddpm.kernels.cuda.linear import Linears
from tinyddpm.kernels.cuda.partial_sums import Sums
from tinyddpm.kernels.cuda.runtime import Precision, Runtime
from tinyddpm.kernels.cuda.silu import Silu
from tinyddpm.ops.kernels import Kernels


def cuda_table(
    runtime: Runtime, precision: Precision = "fp32", sums: Sums | None = None
) -> Kernels:
    """Return the table whose kernels run on ``runtime``; ``precision`` is that of products.

    ``sums`` says when gradients of parameters are formed: at once, unless told.
    """
    linears = Linears(runtime, precision, sums)
    convolutions = Convolutions(runtime, precision, sums)
    norm, norm_silu = (
        GroupNorm(runtime, silu=silu, precision=precision, sums=sums) for silu in (False, True)
    )
    dropout, silu = Dropout(runtime), Silu(runtime, precision)
    attention = Attention(runtime, precision)
    return Kernels(
        name=f"cuda, {precision}",
        prepare_linear=linears.prepare,
        linear=linears.forward,
        linear_backward=linears.backward,
        prepare_conv2d=convolutions.prepare,
        prepare_conv2d_for_norm=convolutions.prepare_for_norm,
        conv2d=convolutions.forward,
        conv2d_backward=convolutions.backward,
        prepare_gradient=convolutions.prepare_gradient,
        upsample_conv2d=convolutions.upsample_forward,
        upsample_conv2d_backward=convolutions.upsample_backward,
        group_norm=norm.forward,
        group_norm_backward=norm.backward,
        group_norm_silu=norm_silu.forward,
        group_norm_silu_backward=norm_silu.backward,
        concat=join,
        concat_backward=join_backward,
        dropout=dropout.forward,
        dropout_backward=dropout.backward,
        silu=silu.forward,
        silu_backward=silu.backward,
        attention=attention.forward,
        attention_backward=attention.backward,
    )
