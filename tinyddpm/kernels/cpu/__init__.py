"""The ``cpu`` table: NumPy twins that make few passes over memory and long matrix products."""

from tinyddpm.kernels.cpu.attention import attention, attention_backward
from tinyddpm.kernels.cpu.conv2d import (
    PreparedWeight,
    conv2d,
    conv2d_backward,
    upsample_conv2d,
    upsample_conv2d_backward,
)
from tinyddpm.kernels.cpu.norm import (
    group_norm,
    group_norm_backward,
    group_norm_silu,
    group_norm_silu_backward,
)
from tinyddpm.ops.concat import concat, concat_backward
from tinyddpm.ops.dropout import dropout, dropout_backward
from tinyddpm.ops.kernels import Kernels
from tinyddpm.ops.linear import linear, linear_backward
from tinyddpm.ops.silu import silu, silu_backward

cpu = Kernels(
    name="cpu",
    prepare_linear=lambda weight: weight,
    linear=linear,
    linear_backward=linear_backward,
    prepare_conv2d=PreparedWeight,
    conv2d=conv2d,
    conv2d_backward=conv2d_backward,
    upsample_conv2d=upsample_conv2d,
    upsample_conv2d_backward=upsample_conv2d_backward,
    group_norm=group_norm,
    group_norm_backward=group_norm_backward,
    group_norm_silu=group_norm_silu,
    group_norm_silu_backward=group_norm_silu_backward,
    concat=concat,
    concat_backward=concat_backward,
    dropout=dropout,
    dropout_backward=dropout_backward,
    silu=silu,
    silu_backward=silu_backward,
    attention=attention,
    attention_backward=attention_backward,
)
