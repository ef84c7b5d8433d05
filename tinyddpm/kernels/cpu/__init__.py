"""The ``cpu`` table: NumPy twins that make few passes over memory and long matrix products.

The other entries (linear, concat, dropout, silu) are the ops themselves.
"""

from dataclasses import replace

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
from tinyddpm.ops.kernels import reference

cpu = replace(
    reference,
    name="cpu",
    prepare_conv2d=PreparedWeight,
    prepare_conv2d_for_norm=PreparedWeight,
    conv2d=conv2d,
    conv2d_backward=conv2d_backward,
    upsample_conv2d=upsample_conv2d,
    upsample_conv2d_backward=upsample_conv2d_backward,
    group_norm=group_norm,
    group_norm_backward=group_norm_backward,
    group_norm_silu=group_norm_silu,
    group_norm_silu_backward=group_norm_silu_backward,
    attention=attention,
    attention_backward=attention_backward,
)
