"""From one noise to another: the interpolation of Song et al. 2021 (DDIM, arXiv 2010.02502, section
5.3 and appendix D.5), by the spherical interpolation of Shoemake 1985.

    x_T^(f) = sin((1 − f) θ)/sin θ x_T^(0) + sin(f θ)/sin θ x_T^(1),   f ∈ [0, 1]            eq. 67
    cos θ   = ⟨x_T^(0), x_T^(1)⟩ / (‖x_T^(0)‖ ‖x_T^(1)‖)

Between two vectors of the same length all x_T^(f) have that length. The network expects this: all
noise has ‖x_T‖² ≈ D, while halfway along the straight line between two independent noises it would
be D/2. DDIM with η = 0 turns the x_T^(f) into images. It adds no noise on the way, so neighbours
stay neighbours.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from tinyddpm.arrays import Array
from tinyddpm.diffusion.arguments import check_images
from tinyddpm.errors import UsageError
from tinyddpm.rng import normal


def slerp(first: Array, second: Array, fraction: float) -> Array:
    """Return what lies ``fraction`` of the way along the arc from ``first`` to ``second``.

    sin((1 − f) θ)/sin θ first + sin(f θ)/sin θ second, θ the angle between them (Song et al. 2021,
    eq. 67).

    Args:
        first: (N, …), one vector for each n, none of them zero.
        second: (N, …).
        fraction: f, from 0 (``first``, to the bit) to 1 (``second``, to the bit).

    Raises:
        UsageError: the shapes differ, the numbers are integers, or two vectors point in opposite
            directions, between which there is no shortest arc.
    """
    check_images(first=first, second=second)
    theta = _angle(first, second)
    if (theta > np.pi - 1e-6).any():
        raise UsageError("there is no shortest arc between vectors in opposite directions")
    # sin(f θ)/sin θ = f sinc(f θ)/sinc θ, which also holds for θ = 0. NumPy's sinc(x) has the π.
    whole = np.sinc(theta / np.pi)
    from_first = (1 - fraction) * np.sinc((1 - fraction) * theta / np.pi) / whole
    from_second = fraction * np.sinc(fraction * theta / np.pi) / whole
    between: Array = from_first.astype(first.dtype) * first
    between += from_second.astype(first.dtype) * second
    return between


def _angle(first: Array, second: Array) -> npt.NDArray[np.float64]:
    """θ in [0, π] for each n, (N, 1, …): 2 atan2(‖u − v‖, ‖u + v‖) of the unit vectors u and v.

    The arccosine would lose half of the digits where the vectors are nearly parallel (Kahan).
    """
    u, v = _unit(first), _unit(second)
    theta = 2 * np.arctan2(np.linalg.norm(u - v, axis=1), np.linalg.norm(u + v, axis=1))
    angles: npt.NDArray[np.float64] = theta.reshape(-1, *(1,) * (first.ndim - 1))
    return angles


def _unit(vectors: Array) -> npt.NDArray[np.float64]:
    flat = vectors.reshape(len(vectors), math.prod(vectors.shape[1:])).astype(np.float64)
    unit: npt.NDArray[np.float64] = flat / np.linalg.norm(flat, axis=1, keepdims=True)
    return unit


def noise_rows(
    rows: int,
    columns: int,
    shape: tuple[int, ...],
    *,
    seed: int = 0,
    dtype: npt.DTypeLike = np.float32,
) -> Array:
    """Return x_T for ``rows`` of ``columns`` images of ``shape`` (H, W, C), row after row.

    Row r goes from the x_T of image 2r to that of image 2r + 1 of a sampler with this ``seed``,
    in even steps along the arc.

    Raises:
        UsageError: there are fewer than two columns.
    """
    if columns < 2:
        raise UsageError(f"a row has two ends, and so at least two images: got {columns}")
    x_T = normal(seed, "sample", step=0, samples=np.arange(2 * rows), shape=shape, dtype=dtype)
    arcs = [slerp(x_T[::2], x_T[1::2], f) for f in np.linspace(0.0, 1.0, columns)]
    return np.stack(arcs, axis=1).reshape(rows * columns, *shape)
