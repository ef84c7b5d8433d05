"""The one random number generator: Philox4x32-10 (Salmon et al. 2011, "Random numbers: as easy as
1, 2, 3").

A counter-based generator is a keyed function from integers to random words: nothing is drawn
"next", so no draw depends on which other draws were made. Here

    key     = (seed, stream)                 which run, and what the numbers are for
    counter = (block, sample, step, site)    which four words of which sample, at which step

so that a batch's noise is a function of (seed, step) alone: it does not change with the number of
threads or shards, with saving and previewing, with interrupting and resuming, or with the device.

    ten rounds of   c0, c1, c2, c3 ← hi(M1 c2) ⊕ c1 ⊕ k0, lo(M1 c2), hi(M0 c0) ⊕ c3 ⊕ k1, lo(M0 c0)
    with the key bumped by the Weyl constants (W0, W1) between rounds.
"""

from __future__ import annotations

import math
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from tinyddpm.arrays import Array, IntArray

Words = npt.NDArray[np.uint32]
Stream = Literal[  # numbered in this order: new ones come last
    "init",
    "order",
    "t",
    "noise",
    "dropout",
    "flip",
    "preview",
    "sample",
    "glyphs",
    "labels",
    "likelihood",
    "shift",
    "subsets",
]

STREAMS: dict[Stream, int] = {name: number for number, name in enumerate(get_args(Stream))}

_M0, _M1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_W0, _W1 = 0x9E3779B9, 0xBB67AE85
_LOW = np.uint64(0xFFFFFFFF)
_HALF = np.uint64(32)


def philox4x32(counter: Words, key: tuple[int, int]) -> Words:
    """Return four random words for each counter (…, 4) under ``key``: Philox4x32-10.

    Ten rounds of c ← hi(M1 c2) ⊕ c1 ⊕ k0, lo(M1 c2), hi(M0 c0) ⊕ c3 ⊕ k1, lo(M0 c0), the key bumped
    by (W0, W1) between them (Salmon et al. 2011).
    """
    c0, c1, c2, c3 = (counter[..., i].astype(np.uint64) for i in range(4))
    k0, k1 = key
    for _ in range(10):
        product0, product1 = _M0 * c0, _M1 * c2
        c0 = (product1 >> _HALF) ^ c1 ^ np.uint64(k0)
        c1 = product1 & _LOW
        c2 = (product0 >> _HALF) ^ c3 ^ np.uint64(k1)
        c3 = product0 & _LOW
        k0, k1 = (k0 + _W0) & 0xFFFFFFFF, (k1 + _W1) & 0xFFFFFFFF
    return np.stack([c0, c1, c2, c3], axis=-1).astype(np.uint32)


def words(
    seed: int, stream: Stream, *, step: int, samples: IntArray, count: int, site: int = 0
) -> Words:
    """Return ``count`` random 32-bit words for each of ``samples``: (len(samples), count).

    They are a function of seed, stream, step, sample and ``site`` (the layer, for dropout's masks).

    Raises:
        ValueError: the seed, the step, the site or a sample is no integer in [0, 2³²), or there is
            no such stream.
    """
    samples = np.asarray(samples)
    if stream not in STREAMS:
        raise ValueError(f"a stream is one of {', '.join(STREAMS)}: got {stream!r}")
    for name, number in (("seed", seed), ("step", step), ("site", site)):
        if not isinstance(number, int | np.integer) or not 0 <= number < 2**32:
            raise ValueError(f"a {name} is an integer in [0, 2^32): got {number}")
    whole = samples.dtype.kind in "iu"
    if len(samples) and not (whole and 0 <= samples.min() <= samples.max() < 2**32):
        raise ValueError(
            f"samples are integers in [0, 2^32): got {samples.min()} to {samples.max()}"
        )
    counter = np.empty((len(samples), -(-count // 4), 4), np.uint32)
    counter[..., 0] = np.arange(counter.shape[1], dtype=np.uint32)
    counter[..., 1] = samples[:, None]
    counter[..., 2] = step
    counter[..., 3] = site
    drawn = philox4x32(counter, (int(seed), STREAMS[stream]))
    return drawn.reshape(len(samples), 4 * counter.shape[1])[:, :count]


def uniform(
    seed: int,
    stream: Stream,
    *,
    step: int,
    samples: IntArray,
    shape: tuple[int, ...],
    site: int = 0,
) -> npt.NDArray[np.float64]:
    """Return uniforms in the open interval (0, 1), float64, (len(samples), *shape)."""
    drawn = words(seed, stream, step=step, samples=samples, count=math.prod(shape), site=site)
    return ((drawn.astype(np.float64) + 0.5) * 2.0**-32).reshape(len(samples), *shape)


def normal(
    seed: int,
    stream: Stream,
    *,
    step: int,
    samples: IntArray,
    shape: tuple[int, ...],
    dtype: npt.DTypeLike = np.float32,
) -> Array:
    """Return standard normals (len(samples), *shape) by Box–Muller on pairs of words.

    The two normals of a pair are r cos φ and r sin φ with r = √(−2 ln u₁), φ = 2π u₂. They are
    computed in float64 and then rounded to ``dtype``; the largest possible |value| is 6.8.
    """
    count = math.prod(shape)
    pairs = -(-count // 2)
    u = uniform(seed, stream, step=step, samples=samples, shape=(pairs, 2))
    radius = np.sqrt(-2.0 * np.log(u[..., 0]))
    angle = 2.0 * math.pi * u[..., 1]
    out = np.empty((len(samples), pairs, 2), dtype)
    out[..., 0] = radius * np.cos(angle)
    out[..., 1] = radius * np.sin(angle)
    drawn: npt.NDArray[Any] = out.reshape(len(samples), 2 * pairs)[:, :count]
    return drawn.reshape(len(samples), *shape)


def integers(seed: int, stream: Stream, *, step: int, samples: IntArray, high: int) -> IntArray:
    """Return one integer from 1 to ``high`` inclusive for each of ``samples``, (len(samples),)."""
    drawn = words(seed, stream, step=step, samples=samples, count=1)[:, 0].astype(np.uint64)
    return (drawn * np.uint64(high) >> _HALF).astype(np.int64) + 1


def permutation(seed: int, stream: Stream, *, epoch: int, n: int) -> IntArray:
    """Return a permutation of 0 … n − 1 that depends on (seed, stream, epoch) alone."""
    keys = words(seed, stream, step=epoch, samples=np.arange(n), count=1)[:, 0]
    return np.argsort(keys, kind="stable")
