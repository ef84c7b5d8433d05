"""Group normalisation (Wu & He 2018, arXiv 1803.08494). Means run over one (n, g): the H W C/G
values of one group of channels of one image.

    x_hat   = (x − mean x) r,   r = (mean (x − mean x)² + norm_eps)^(−1/2)
    y       = weight x_hat + bias

    dbias   = Σ_{n,h,w} dy          dweight = Σ_{n,h,w} dy x_hat          dx_hat = weight dy
    dx      = r (dx_hat − mean dx_hat − x_hat mean(dx_hat x_hat)) + dskip

If each image has a weight and a bias of its own, their gradients are sums over h and w alone. If x
is used a second time, besides the norm, dskip is the gradient that comes back from there.
"""

from __future__ import annotations

from typing import NamedTuple

from tinyddpm.arrays import Array


class GroupNormSaved(NamedTuple):
    """One activation-sized array and N·G scalars."""

    x_hat: Array  # (N, H, W, C)
    r: Array  # (N, 1, G, 1)
    weight: Array  # (C,) or (N, C)


def group_norm(
    x: Array, weight: Array, bias: Array, *, groups: int, norm_eps: float = 1e-5
) -> tuple[Array, GroupNormSaved]:
    """Normalise ``x`` (N, H, W, C) within each of ``groups`` groups of neighbouring channels.

    y = weight x_hat + bias, x_hat = (x − mean x)(mean (x − mean x)² + norm_eps)^(−1/2), the means
    over one group of one image (Wu & He 2018). ``weight`` and ``bias`` are (C,), or (N, C) for each
    image.

    Raises:
        ValueError: ``groups`` does not divide C.
    """
    channels = x.shape[-1]
    if channels % groups:
        raise ValueError(f"groups must divide the channels: got C={channels}, groups={groups}")
    xg = x.reshape(len(x), -1, groups, channels // groups)
    xc = xg - xg.mean(axis=(1, 3), keepdims=True)
    r = ((xc * xc).mean(axis=(1, 3), keepdims=True) + norm_eps) ** -0.5
    x_hat = (xc * r).reshape(x.shape)
    y = of_images(weight) * x_hat + of_images(bias)
    return y, GroupNormSaved(x_hat, r, weight)


def group_norm_backward(
    dy: Array, saved: GroupNormSaved, dskip: Array | None = None
) -> tuple[Array, Array, Array]:
    """Return ``(dx, dweight, dbias)`` for ``dy`` (N, H, W, C).

    ``dskip`` (N, H, W, C), the gradient of x by its other use, is added to dx.
    """
    x_hat, r, weight = saved
    summed = (0, 1, 2) if weight.ndim == 1 else (1, 2)
    dbias = dy.sum(axis=summed)
    dweight = (dy * x_hat).sum(axis=summed)
    grouped = (len(dy), -1, r.shape[2], dy.shape[3] // r.shape[2])
    xh = x_hat.reshape(grouped)
    dxh = (of_images(weight) * dy).reshape(grouped)
    mean_dxh = dxh.mean(axis=(1, 3), keepdims=True)
    mean_dxh_xh = (dxh * xh).mean(axis=(1, 3), keepdims=True)
    dx = (r * (dxh - mean_dxh - xh * mean_dxh_xh)).reshape(dy.shape)
    return dx if dskip is None else dx + dskip, dweight, dbias


def of_images(values: Array) -> Array:
    """Return ``values``, (C,) or (N, C), in a shape that meets (N, H, W, C)."""
    return values.reshape(-1, 1, 1, values.shape[-1])
