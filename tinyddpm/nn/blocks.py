"""The blocks of the U-Net: residual, attention, down- and upsampling.

Ho et al. 2020 (arXiv 2006.11239, appendix B) and Nichol & Dhariwal 2021 (2102.09672, appendix A).
"""

from __future__ import annotations

from typing import Any, NamedTuple, final

from tinyddpm.arrays import Array
from tinyddpm.nn.conditioning import AddTime, ScaleShiftTime
from tinyddpm.nn.config import UNetConfig
from tinyddpm.nn.layers import Builder, Conv2d, GroupNorm, Linear
from tinyddpm.nn.masks import Masks
from tinyddpm.ops.kernels import Joined


class ResBlockSaved(NamedTuple):
    """What each step of the branch keeps; ``drop`` and ``shortcut`` may be None."""

    norm: Any
    time: Any
    drop: Any
    conv2: Any
    shortcut: Any


@final
class ResBlock:
    """y = shortcut(x) + conv2(dropout(time(norm_silu(x), emb))); ``time`` includes conv1."""

    def __init__(
        self, build: Builder, name: str, c_in: int, c_out: int, config: UNetConfig, *, site: int
    ) -> None:
        conditioned = AddTime if config.conditioning == "add" else ScaleShiftTime
        groups, norm_eps = config.groups, config.norm_eps
        self.kernels, self.rate, self.site = build.kernels, config.dropout, site
        self.norm = GroupNorm(
            build, f"{name}.norm1", c_in, groups=groups, norm_eps=norm_eps, silu=True
        )
        self.time = conditioned(build, name, c_in, c_out, config)
        self.conv2 = Conv2d(build, f"{name}.conv2", c_out, c_out, zero=config.zero_init)
        self.shortcut = (
            Conv2d(build, f"{name}.shortcut", c_in, c_out, size=1, pad=(0, 0))
            if c_in != c_out
            else None
        )

    def forward(
        self, x: Array | Joined, emb: Array, masks: Masks | None
    ) -> tuple[Array, ResBlockSaved]:
        """Map ``x`` (N, H, W, C_in) and ``emb`` (N, E) to (N, H, W, C_out)."""
        h, norm = self.norm.forward(x)
        h, time = self.time.forward(h, emb)
        drop = None
        if masks is not None and self.rate:
            keep = masks.keep(h, self.rate, self.site)
            h, drop = self.kernels.dropout(h, keep, rate=self.rate)
        skip, shortcut = self.shortcut.forward(x) if self.shortcut else (x, None)
        y, conv2 = self.conv2.forward_onto(skip, h)
        return y, ResBlockSaved(norm, time, drop, conv2, shortcut)

    def backward(
        self, dy: Array, saved: ResBlockSaved, demb: Array | None = None
    ) -> tuple[Array | Joined, Array]:
        """Return ``(dx, demb)``, (N, H, W, C_in) and (N, E), for ``dy`` (N, H, W, C_out); the
        ``demb`` of the later blocks is added to this block's.
        """
        dskip = dy
        if self.shortcut:
            dy = self.kernels.prepare_gradient(dy)  # for two convolutions
            dskip = self.shortcut.backward(dy, saved.shortcut)
        dh = self.conv2.backward(dy, saved.conv2)
        if saved.drop is not None:
            dh = self.kernels.dropout_backward(dh, saved.drop)
        dh, demb = self.time.backward(dh, saved.time, demb)
        return self.norm.backward(dh, saved.norm, dskip=dskip), demb


class AttentionBlockSaved(NamedTuple):
    """What each step of the branch keeps."""

    norm: Any
    qkv: Any
    attention: Any
    out: Any


@final
class AttentionBlock:
    """y = x + out(attention(qkv(group_norm(x)))), every pixel a token."""

    def __init__(self, build: Builder, name: str, channels: int, config: UNetConfig) -> None:
        self.kernels = build.kernels
        self.heads, self.qkv_order = config.heads, config.qkv_order
        groups, norm_eps = config.groups, config.norm_eps
        self.norm = GroupNorm(build, f"{name}.norm", channels, groups=groups, norm_eps=norm_eps)
        self.qkv = Linear(build, f"{name}.qkv", channels, 3 * channels)
        self.out = Linear(build, f"{name}.out", channels, channels, zero=config.zero_init)

    def forward(self, x: Array) -> tuple[Array, AttentionBlockSaved]:
        """Map ``x`` (N, H, W, C) to the same shape."""
        n, height, width, channels = x.shape
        tokens = n, height * width, channels
        h, norm = self.norm.forward(x)
        h, qkv = self.qkv.forward(h.reshape(tokens))
        h, attended = self.kernels.attention(h, heads=self.heads, qkv_order=self.qkv_order)
        y, out = self.out.forward_onto(x.reshape(tokens), h)
        return y.reshape(x.shape), AttentionBlockSaved(norm, qkv, attended, out)

    def backward(self, dy: Array, saved: AttentionBlockSaved) -> Array:
        """Return ``dx`` for ``dy``, (N, H, W, C) both."""
        n, height, width, channels = dy.shape
        dh = self.out.backward(dy.reshape(n, height * width, channels), saved.out)
        dh = self.kernels.attention_backward(dh, saved.attention)
        dh = self.qkv.backward(dh, saved.qkv)
        return self.norm.backward(dh.reshape(dy.shape), saved.norm, dskip=dy)


@final
class Downsample:
    """Halve the image by a 3×3 convolution of stride 2."""

    def __init__(self, build: Builder, name: str, channels: int, config: UNetConfig) -> None:
        self.conv = Conv2d(build, name, channels, channels, stride=2, pad=config.down_pad)

    def forward(self, x: Array) -> tuple[Array, Any]:
        """Map (N, H, W, C) to (N, H/2, W/2, C)."""
        return self.conv.forward(x)

    def backward(self, dy: Array, saved: Any) -> Array:
        """Return ``dx`` (N, H, W, C) for ``dy`` (N, H/2, W/2, C)."""
        return self.conv.backward(dy, saved)


@final
class Upsample:
    """Double the image: nearest neighbour, then a 3×3 convolution."""

    def __init__(self, build: Builder, name: str, channels: int) -> None:
        self.conv = Conv2d(build, name, channels, channels, upsample=True)

    def forward(self, x: Array) -> tuple[Array, Any]:
        """Map (N, H, W, C) to (N, 2H, 2W, C)."""
        return self.conv.forward(x)

    def backward(self, dy: Array, saved: Any) -> Array:
        """Return ``dx`` (N, H, W, C) for ``dy`` (N, 2H, 2W, C)."""
        return self.conv.backward(dy, saved)
