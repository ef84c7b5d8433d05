"""GroupNorm followed by SiLU, the pair before every convolution of the U-Net.

    y = silu(h),   h = group_norm(x)

The composition is an op of its own because its backward needs less than its parts do: h is affine
in the normalised x_hat, so it is computed again rather than kept.
"""

from __future__ import annotations

from typing import NamedTuple

from tinyddpm.arrays import Array
from tinyddpm.ops.group_norm import GroupNormSaved, group_norm, group_norm_backward, of_images
from tinyddpm.ops.silu import SiluSaved, silu, silu_backward


class GroupNormSiluSaved(NamedTuple):
    """What GroupNorm keeps (one activation), and its bias."""

    norm: GroupNormSaved
    bias: Array  # (C,) or (N, C)


def group_norm_silu(
    x: Array, weight: Array, bias: Array, *, groups: int, norm_eps: float = 1e-5
) -> tuple[Array, GroupNormSiluSaved]:
    """Return silu(group_norm(x)) for ``x`` (N, H, W, C); ``weight`` and ``bias`` are (C,), or
    (N, C) for each image.
    """
    h, norm = group_norm(x, weight, bias, groups=groups, norm_eps=norm_eps)
    y, _ = silu(h)
    return y, GroupNormSiluSaved(norm, bias)


def group_norm_silu_backward(
    dy: Array, saved: GroupNormSiluSaved, dskip: Array | None = None
) -> tuple[Array, Array, Array]:
    """Return ``(dx, dweight, dbias)`` for ``dy`` (N, H, W, C).

    ``dskip`` (N, H, W, C), the gradient of x by its other use, is added to dx.
    """
    norm, bias = saved
    h = of_images(norm.weight) * norm.x_hat + of_images(bias)
    dh = silu_backward(dy, SiluSaved(h))
    return group_norm_backward(dh, norm, dskip)
