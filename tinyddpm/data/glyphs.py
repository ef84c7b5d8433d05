"""The built-in data set: digits of 16 × 16 pixels, drawn by the program from strokes.

A digit is a set of straight segments in the unit box (arcs are cut into short ones). An image
places them by its own random pose and inks each pixel by its distance to the nearest segment ab:

    p′       = R(θ) (width (p_x − ½) − shear height (p_y − ½), height (p_y − ½)) + centre
    s        = clip((p − a)·(b − a) / |b − a|², 0, 1)       where on ab the nearest point lies
    distance = min over segments of |p − a − s (b − a)|
    ink      = clip(pen − distance + ½, 0, 1)               an edge one pixel wide
    byte     = round(255 ink)

The images are the same bytes on every machine. All of the above is +, −, ×, ÷ and √ on one element
at a time, which IEEE 754 rounds in one way only. There is no sum whose order could vary, and the
rotation is rational in u = tan(θ/2), cos θ = (1 − u²)/(1 + u²), sin θ = 2u/(1 + u²). Only the arcs
use the sine of the system's library, once, and are rounded far above its error.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tinyddpm.arrays import Array, IntArray
from tinyddpm.data.dataset import DIGITS, ByteArray, Dataset, Split
from tinyddpm.rng import uniform

SIZE = 16
Point = tuple[float, float]

_FIRST_SAMPLE: dict[Split, int] = {"train": 0, "test": 2**31}
_MOST = 2**31
_CHUNK = 64  # images drawn at once: about 3 MB of temporaries, which stay in the cache

# What each image draws uniformly from: in pixels, except u = tan(θ/2) and the shear.
_RANGES = {
    "width": (6.0, 8.6),
    "height": (9.2, 11.4),
    "shear": (-0.12, 0.3),
    "u": (-0.09, 0.09),
    "centre_x": (7.2, 8.8),
    "centre_y": (7.2, 8.8),
    "pen": (0.6, 1.05),
}


class _Pose(NamedTuple):
    """One number of each kind for every image: (n, 1), to go with its segments."""

    width: Array
    height: Array
    shear: Array
    u: Array
    centre_x: Array
    centre_y: Array
    pen: Array


def glyphs(n: int = 10_000, seed: int = 0, split: Split = "train") -> Dataset:
    """Draw ``n`` digits, white on black, (n, 16, 16, 1); image i shows the digit i mod 10.

    Image i depends on (seed, split, i) alone, and the two splits share no random number.

    Raises:
        ValueError: ``n`` is not in [1, 2³¹] or ``seed`` not in [0, 2³²).
    """
    if not 1 <= n <= _MOST:
        raise ValueError(f"n must be in [1, 2^31]: got {n}")
    index = np.arange(n)
    labels = index % 10
    poses = _draw_poses(seed, index + _FIRST_SAMPLE[split])
    images = np.empty((n, SIZE, SIZE, 1), np.uint8)
    for digit, segments in enumerate(_SEGMENTS):
        same = np.flatnonzero(labels == digit)
        for start in range(0, len(same), _CHUNK):
            chosen = same[start : start + _CHUNK]
            images[chosen, :, :, 0] = _draw(segments, _Pose(*poses[:, chosen, None]))
    return Dataset("glyphs", images, labels.astype(np.uint8), DIGITS)


def _draw_poses(seed: int, samples: IntArray) -> Array:
    """Return the random numbers of each image, (7, n), a row for each field of ``_Pose``."""
    u = uniform(seed, "glyphs", step=0, samples=samples, shape=(len(_RANGES),))
    low, high = np.array([_RANGES[name] for name in _Pose._fields]).T
    poses: npt.NDArray[Any] = (low + (high - low) * u).T
    return poses


def _draw(segments: Array, pose: _Pose) -> ByteArray:
    """Ink ``segments`` (K, 2, 2) in each pose: (n, 16, 16)."""
    ax, ay = _place(segments[:, 0, 0], segments[:, 0, 1], pose)
    bx, by = _place(segments[:, 1, 0], segments[:, 1, 1], pose)
    distance = np.sqrt(_nearest_squared(ax, ay, bx - ax, by - ay))
    pen = pose.pen.astype(np.float32)[:, :, None]
    ink = (pen - distance + np.float32(0.5)).clip(0, 1)
    inked: ByteArray = np.rint(255 * ink).astype(np.uint8)
    return inked


def _place(x: Array, y: Array, pose: _Pose) -> tuple[Array, Array]:
    """Carry points (K,) of the unit box to pixels, (n, K) each, float32."""
    upright_y = pose.height * (y - 0.5)
    upright_x = pose.width * (x - 0.5) - pose.shear * upright_y
    scale = 1 / (1 + pose.u * pose.u)
    cos, sin = (1 - pose.u * pose.u) * scale, 2 * pose.u * scale
    px = cos * upright_x - sin * upright_y + pose.centre_x
    py = sin * upright_x + cos * upright_y + pose.centre_y
    return px.astype(np.float32), py.astype(np.float32)


def _nearest_squared(ax: Array, ay: Array, dx: Array, dy: Array) -> Array:
    """Return each pixel's squared distance to the nearest segment, (n, 16, 16); d is b − a."""
    centres = np.arange(SIZE, dtype=np.float32) + np.float32(0.5)
    # Terms of x alone are (n, K, 1, 16) and of y alone (n, K, 16, 1): only their sums are large.
    dx, dy = dx[:, :, None, None], dy[:, :, None, None]
    x = centres[None, :] - ax[:, :, None, None]
    y = centres[:, None] - ay[:, :, None, None]
    length_squared = dx * dx + dy * dy
    s = (x * (dx / length_squared) + y * (dy / length_squared)).clip(0, 1)
    off_x, off_y = x - s * dx, y - s * dy
    nearest: npt.NDArray[Any] = (off_x * off_x + off_y * off_y).min(axis=1)
    return nearest


def _arc(centre: Point, radii: Point, start: int, end: int) -> list[Point]:
    """Points of an ellipse from angle ``start`` to ``end``, in degrees clockwise from the right."""
    steps = math.ceil((end - start) / 24)
    angles = [math.radians(start + (end - start) * i / steps) for i in range(steps + 1)]
    return [
        (centre[0] + radii[0] * math.cos(angle), centre[1] + radii[1] * math.sin(angle))
        for angle in angles
    ]


def _segments(*strokes: list[Point]) -> Array:
    """Return the segments of ``strokes``, (K, 2, 2): (a, b) of (x, y), in multiples of 2⁻¹²."""
    pairs = [pair for stroke in strokes for pair in pairwise(stroke)]
    segments: npt.NDArray[Any] = np.rint(np.array(pairs) * 4096) / 4096
    return segments


_SEGMENTS = (
    _segments(_arc((0.5, 0.5), (0.5, 0.5), 0, 360)),
    _segments([(0.2, 0.22), (0.55, 0), (0.55, 1)]),
    _segments([*_arc((0.5, 0.28), (0.46, 0.28), 195, 400), (0.03, 1), (1, 1)]),
    _segments(
        [
            *_arc((0.46, 0.235), (0.42, 0.235), 205, 450),
            *_arc((0.46, 0.735), (0.5, 0.265), 285, 515),
        ]
    ),
    _segments([(0.7, 1), (0.7, 0), (0, 0.7), (1, 0.7)]),
    _segments([(0.92, 0), (0.2, 0), *_arc((0.45, 0.67), (0.48, 0.33), 220, 510)]),
    _segments(
        _arc((0.5, 0.67), (0.48, 0.33), 0, 360),
        _arc((0.8, 0.67), (0.78, 0.67), 180, 270),
    ),
    _segments([(0, 0), (1, 0), (0.36, 1)]),
    _segments(
        _arc((0.5, 0.24), (0.4, 0.24), 0, 360),
        _arc((0.5, 0.74), (0.48, 0.26), 0, 360),
    ),
    _segments(
        _arc((0.5, 0.33), (0.48, 0.33), 0, 360),
        _arc((0.2, 0.33), (0.78, 0.67), 0, 90),
    ),
)
