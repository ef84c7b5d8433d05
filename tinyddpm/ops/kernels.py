"""The table of functions that a network is built on.

The ops that take nearly all of a network's time stand in a table, so that a faster twin can take
the place of any of them. An entry has the meaning and the signature of the op it is named after. It
may save for its backward what it likes. A network is given one table and calls it directly: there
is no registry and no choice per call.

A table may choose its own form for five things:

- What ``concat`` returns, which only ``group_norm_silu`` and ``conv2d`` of the same table read; and
  its gradient, which goes from ``group_norm_silu_backward`` to ``concat_backward``.
- Weights: those of linear layers and convolutions are passed as ``prepare_linear`` and
  ``prepare_conv2d`` return them (transposed, transformed, split, or of another type). What prepares
  weights is called again when they have changed, unless the table updates its form by itself.
- The result of a convolution that only ``group_norm_silu`` of the same table reads; and its
  gradient, which goes from ``group_norm_silu_backward`` to ``conv2d_backward``. The weight of such
  a convolution is passed as ``prepare_conv2d_for_norm`` returns it, which tells ``conv2d`` so.
- The type of what a norm, ``silu`` or ``dropout`` gives to a product, and of the gradient that
  comes back.
- A gradient that several convolutions take: each ``conv2d_backward`` is passed what
  ``prepare_gradient`` returned, once for all of them. None may have a bias for each image.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any

from tinyddpm.arrays import Array
from tinyddpm.ops.attention import attention, attention_backward
from tinyddpm.ops.concat import concat, concat_backward
from tinyddpm.ops.conv2d import conv2d, conv2d_backward
from tinyddpm.ops.dropout import dropout, dropout_backward
from tinyddpm.ops.group_norm import group_norm, group_norm_backward
from tinyddpm.ops.group_norm_silu import group_norm_silu, group_norm_silu_backward
from tinyddpm.ops.linear import linear, linear_backward
from tinyddpm.ops.silu import silu, silu_backward
from tinyddpm.ops.upsample_conv2d import upsample_conv2d, upsample_conv2d_backward

Joined = Any  # what a table's ``concat`` gives: an array, or a form of the table's own
Forward = Callable[..., tuple[Array, Any]]
Backward = Callable[..., Any]


@dataclass(frozen=True)
class Kernels:
    """Forward and backward of every hot op; see the op of the same name for its meaning."""

    name: str
    prepare_linear: Callable[[Array], Any]
    linear: Forward
    linear_backward: Backward
    prepare_conv2d: Callable[[Array], Any]
    prepare_conv2d_for_norm: Callable[[Array], Any]
    conv2d: Callable[..., tuple[Any, Any]]  # may give a form of its own, too
    conv2d_backward: Backward
    prepare_gradient: Callable[[Array], Any]
    upsample_conv2d: Forward
    upsample_conv2d_backward: Backward
    group_norm: Forward
    group_norm_backward: Backward
    group_norm_silu: Forward
    group_norm_silu_backward: Backward
    concat: Callable[[Array, Array], tuple[Joined, Any]]
    concat_backward: Backward
    dropout: Forward
    dropout_backward: Backward
    silu: Forward
    silu_backward: Backward
    attention: Forward
    attention_backward: Backward


reference = Kernels(
    name="reference",
    prepare_linear=lambda weight: weight,
    linear=linear,
    linear_backward=linear_backward,
    prepare_conv2d=lambda weight: weight,
    prepare_conv2d_for_norm=lambda weight: weight,
    conv2d=conv2d,
    conv2d_backward=conv2d_backward,
    prepare_gradient=lambda dy: dy,
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


def keeping_nothing(kernels: Kernels) -> Kernels:
    """Return the table with forwards that save nothing (``saved`` is None), and so no backwards.

    What an entry would have kept is freed when it returns, and the next one writes to memory that
    is still in the processor's cache.
    """
    names = {field.name for field in fields(kernels)}
    forwards = (name for name in names if f"{name}_backward" in names)
    alone = {name: _output_alone(getattr(kernels, name)) for name in forwards}
    return replace(kernels, name=f"{kernels.name}, forward only", **alone)


def _output_alone(forward: Forward) -> Forward:
    def output_alone(*args: Any, **options: Any) -> tuple[Array, None]:
        return forward(*args, **options)[0], None

    return output_alone
