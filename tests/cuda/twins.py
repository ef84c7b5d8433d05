"""GroupNorm, SiLU and attention on a device, beside their references."""

import numpy as np
from conv_twins import Twin

from tinyddpm.arrays import to_host
from tinyddpm.kernels.cuda.attention import Attention
from tinyddpm.kernels.cuda.group_norm import GroupNorm
from tinyddpm.kernels.cuda.silu import Silu
from tinyddpm.ops import attention as attention_op
from tinyddpm.ops import group_norm as norm_op
from tinyddpm.ops import group_norm_silu as norm_silu_op
from tinyddpm.ops import silu as silu_op


def group_norm(runtime, *, silu):
    ours = GroupNorm(runtime, silu=silu)
    if silu:
        reference = norm_silu_op.group_norm_silu, norm_silu_op.group_norm_silu_backward
    else:
        reference = norm_op.group_norm, norm_op.group_norm_backward
    return Twin(runtime, (ours.forward, ours.backward), reference)


def attention(runtime, precision):
    ours = Attention(runtime, precision)
    reference = attention_op.attention, attention_op.attention_backward
    return Twin(runtime, (ours.forward, _in_a_list(ours.backward)), _listed(*reference))


def silu(runtime):
    ours = Silu(runtime)
    reference = silu_op.silu, silu_op.silu_backward
    return Twin(runtime, (ours.forward, _in_a_list(ours.backward)), _listed(*reference))


def _listed(forward, backward):
    return forward, _in_a_list(backward)


def _in_a_list(backward):
    return lambda dy, saved: [backward(dy, saved)]


def largest_error(pairs):
    """Of all values, relative to the largest of its array, or to 1 where that is smaller."""
    return np.max(
        [
            np.abs(to_host(result) - exact).max() / max(1, np.abs(exact).max())
            for result, exact in pairs
        ]
    )


def relative_errors(pairs):
    """The norm of each array's error, relative to the norm of the array."""
    return np.array(
        [np.linalg.norm(to_host(result) - exact) / np.linalg.norm(exact) for result, exact in pairs]
    )
