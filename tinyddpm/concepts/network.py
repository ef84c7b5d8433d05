"""The network: concepts 25 to 27."""

from __future__ import annotations

import cmath
import math
import statistics

import numpy as np

from tinyddpm.concepts import independent
from tinyddpm.concepts.concept import Check, Concept, exactly, table
from tinyddpm.nn.blocks import AttentionBlock, ResBlock
from tinyddpm.nn.config import PRESETS, UNetConfig
from tinyddpm.nn.embedding import EmbeddingMlp
from tinyddpm.nn.unet import UNet
from tinyddpm.ops.attention import attention
from tinyddpm.ops.group_norm import group_norm
from tinyddpm.ops.scale_shift import scale_shift
from tinyddpm.ops.time_embedding import time_embedding


def _check_unet() -> Check:
    names = ("glyphs", "mnist", "mnist-1.7m")
    counts = [UNet(PRESETS[name]).parameters.count for name in names]
    return exactly(
        "parameters of the presets glyphs, mnist and mnist-1.7m",
        [*counts, counts[-1]],
        "layer by layer with pencil and paper; and 1,707,009, which the course it is from prints",
        [*(_count(PRESETS[name]) for name in names), 1_707_009],
    )


def _count(config: UNetConfig) -> int:
    """Parameters of a U-Net: every weight and bias of every layer."""
    first, emb = config.channels[0], config.embedding_width
    time = (emb + 1) * (2 if config.conditioning == "scale-shift" else 1)  # for each channel
    total = first * emb + emb + emb * emb + emb  # of t: two linear layers
    total += 9 * config.in_channels * first + first  # conv_in
    skips, width = [first], first
    for level, (c, size) in enumerate(zip(config.channels, config.sizes, strict=True)):
        for _ in range(config.blocks):
            total += _block(width, c, time) + _attention(c) * (size in config.attention_at)
            width = c
            skips.append(c)
        if level < len(config.channels) - 1:
            total += 9 * c * c + c
            skips.append(c)
    total += 2 * _block(width, width, time) + _attention(width)
    for level in reversed(range(len(config.channels))):
        c, size = config.channels[level], config.sizes[level]
        for _ in range(config.blocks + 1):
            total += _block(width + skips.pop(), c, time)
            total += _attention(c) * (size in config.attention_at)
            width = c
        total += (9 * c * c + c) * (level > 0)
    return total + 2 * first + 9 * first * config.out_channels + config.out_channels


def _block(c_in: int, c_out: int, time: int) -> int:
    """Two norms, two convolutions, the time, and the 1×1 shortcut where the width changes."""
    norms, convolutions = 2 * c_in + 2 * c_out, 9 * (c_in + c_out) * c_out + 2 * c_out
    shortcut = (c_in * c_out + c_out) * (c_in != c_out)
    return norms + convolutions + time * c_out + shortcut


def _attention(c: int) -> int:
    """Norm, q, k, v and the way out."""
    return 2 * c + 4 * (c * c + c)


def _table_unet() -> str:
    rows = []
    for name, config in PRESETS.items():
        size = f"{config.image_size}×{config.image_size}×{config.in_channels}"
        widths = " ".join(map(str, config.channels))
        rows.append((name, size, widths, config.blocks, f"{_count(config):,}"))
    return table(("preset", "image", "widths", "blocks", "parameters"), rows)


def _check_time_embedding() -> Check:
    half, times = 8, (1, 7, 250, 999)
    ours, others = [], []
    for order, shift in (("cos|sin", 0), ("sin|cos", 1)):
        t = np.array(times, np.float64)
        y, _ = time_embedding(t, dim=2 * half, order=order, shift=shift)  # type: ignore[arg-type]
        ours.append(y.ravel())
        for time in times:
            turn = [cmath.rect(1.0, 10000 ** (-i / (half - shift))) ** time for i in range(half)]
            cos, sin = [z.real for z in turn], [z.imag for z in turn]
            others.append(np.array([*cos, *sin] if order == "cos|sin" else [*sin, *cos]))
    return exactly(
        "16 numbers for t = 1, 7, 250 and 999, in both published orders",
        np.concatenate(ours),
        "a hand on each clock turned t times by its angle: powers of complex numbers",
        np.concatenate(others),
        rtol=1e-10,
    )


def _table_time_embedding() -> str:
    network = UNet(PRESETS["mnist"])
    ending = ".time.weight"
    entries = [
        (name.removesuffix(ending), " → ".join(map(str, parameter.shape)))
        for name, parameter in network.parameters.named().items()
        if name.endswith(ending)
    ]
    return table(("residual block", "numbers of t → channels"), entries)


def _check_attention() -> Check:
    qkv, x = independent.normals(27, 3, 12), independent.normals(28, 2, 3, 4)
    scale, shift = independent.normals(29, 2, 1, 4)
    y, _ = attention(qkv[None], heads=2)
    normed, _ = group_norm(x[None], np.ones(4), np.zeros(4), groups=2, norm_eps=1e-5)
    modulated, _ = scale_shift(normed, scale, shift)
    return exactly(
        "attention of 3 tokens with 2 heads; group norm of 2 groups; scale and shift",
        np.concatenate([y.ravel(), normed.ravel(), modulated.ravel()]),
        "loops over tokens with math.exp; statistics.fmean and pvariance of each group",
        [*_attend(qkv.tolist()), *_normalise(x), *_modulate(_normalise(x), scale[0], shift[0])],
        rtol=1e-10,
    )


def _attend(qkv: list[list[float]]) -> list[float]:
    """Channels 0–3 are q, 4–7 k, 8–11 v; each head has two of each."""
    out = []
    for query in qkv:
        for head in (0, 2):
            q = query[head : head + 2]
            scores = [
                sum(a * b for a, b in zip(q, token[4 + head : 6 + head], strict=True))
                / math.sqrt(2)
                for token in qkv
            ]
            weights = [math.exp(s) for s in scores]
            for channel in (8 + head, 9 + head):
                values = [token[channel] for token in qkv]
                mixed = sum(w * v for w, v in zip(weights, values, strict=True))
                out.append(mixed / sum(weights))
    return out


def _normalise(x: independent.Floats) -> list[float]:
    normed = np.empty_like(x)
    for group in (slice(0, 2), slice(2, 4)):
        values = x[..., group].ravel().tolist()
        mean, variance = statistics.fmean(values), statistics.pvariance(values)
        normed[..., group] = (x[..., group] - mean) / math.sqrt(variance + 1e-5)
    return [float(value) for value in normed.ravel()]


def _modulate(
    values: list[float], scale: independent.Floats, shift: independent.Floats
) -> list[float]:
    return [v * (1 + scale[i % 4]) + shift[i % 4] for i, v in enumerate(values)]


def _table_attention() -> str:
    rows = [
        (name, " ".join(map(str, c.attention_at)), c.heads, c.groups, c.conditioning)
        for name, c in PRESETS.items()
    ]
    return table(("preset", "attention at (and middle)", "heads", "groups", "time enters by"), rows)


CONCEPTS = (
    Concept(
        number=25,
        name="unet",
        title="The U-Net: encoder, bottleneck, decoder, skips",
        text="""The network takes x_t and t and returns an image of noise of the same size. The
        encoder halves the image and widens it level by level, the bottleneck sees the whole of
        it, and the decoder doubles it back. What the encoder knew at each resolution reaches the
        decoder through skips, so that fine detail need not pass the bottleneck.""",
        equation="ε_θ(x_t, t): (H, W, C) → (H, W, C),   decoder block: h ← block([h | skip], t)",
        functions=(UNet, UNet.backward),
        check=_check_unet,
        table=_table_unet,
        figure="unet",
    ),
    Concept(
        number=26,
        name="time-embedding",
        title="The sinusoidal embedding of t, in every residual block",
        text="""One network serves all t, so it must know which. t becomes a vector of sines and
        cosines, like the hands of many clocks, the slowest taking tens of thousands of steps a
        turn. A small network turns it into what every residual block adds to its features, or
        scales and shifts them by. Two orders of sines and cosines are in print, and a network
        trained with one fails with the other.""",
        equation="""ω_i = 10000^(−i/(half − shift)),   emb = [cos(t ω) | sin(t ω)]
        h ← h + linear(silu(mlp(emb)))   in each residual block""",
        functions=(time_embedding, EmbeddingMlp, ResBlock),
        check=_check_time_embedding,
        table=_table_time_embedding,
        figure="time-embedding",
    ),
    Concept(
        number=27,
        name="attention",
        title="Self-attention, group normalisation, scale and shift",
        text="""A convolution sees 3×3 pixels. Attention lets each pixel look at all others: it
        asks (q), they answer (k), and it takes the mean of what they hold (v), weighted by how
        well question and answer fit. Group normalisation gives each group of channels mean 0 and
        variance 1, image by image. Scale-shift lets the time set the size and offset of what
        comes out of it.""",
        equation="""attention = softmax(q kᵀ/√D) v
        group_norm: x_hat = (x − mean)/√(variance + 10⁻⁵)   over one group of one image
        scale-shift: h ← group_norm(h) (1 + scale(t)) + shift(t)""",
        functions=(attention, group_norm, scale_shift, AttentionBlock),
        check=_check_attention,
        table=_table_attention,
    ),
)
