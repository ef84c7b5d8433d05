"""The U-Net of ``nn.unet`` in PyTorch, as one who wants it fast would write it there.

Modules bear the names of our parameters, so that values go over by name. What our network computes
once for all blocks (the last SiLU of the embedding) is computed once here too.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tinyddpm.nn.config import UNetConfig
from tinyddpm.nn.parameters import Parameters


class Norm(nn.GroupNorm):
    """Group normalisation over channels first."""

    def __init__(self, channels: int, config: UNetConfig) -> None:
        super().__init__(config.groups, channels, eps=config.norm_eps)


class ResBlock(nn.Module):
    """A residual block, and attention behind it where the resolution has it."""

    def __init__(self, c_in: int, c_out: int, config: UNetConfig, *, attention: bool) -> None:
        super().__init__()
        self.scale_and_shift = config.conditioning == "scale-shift"
        self.rate = config.dropout
        self.norm1, self.norm2 = Norm(c_in, config), Norm(c_out, config)
        self.conv1 = nn.Conv2d(c_in, c_out, 3, padding=1)
        self.conv2 = nn.Conv2d(c_out, c_out, 3, padding=1)
        self.time = nn.Linear(config.embedding_width, c_out * (2 if self.scale_and_shift else 1))
        self.shortcut = nn.Conv2d(c_in, c_out, 1) if c_in != c_out else None
        self.attention = Attention(c_out, config) if attention else None

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        """Map ``x`` (N, C_in, H, W) and ``emb`` (N, E) to (N, C_out, H, W)."""
        h = self.conv1(F.silu(self.norm1(x)))
        e = self.time(emb)[:, :, None, None]
        if self.scale_and_shift:
            scale, shift = e.chunk(2, dim=1)
            h = self.norm2(h) * (1 + scale) + shift
        else:
            h = self.norm2(h + e)
        h = self.conv2(F.dropout(F.silu(h), self.rate, self.training))
        x = h + (self.shortcut(x) if self.shortcut is not None else x)
        return self.attention(x) if self.attention is not None else x


class Attention(nn.Module):
    """Self-attention over the pixels, through the fused op."""

    def __init__(self, channels: int, config: UNetConfig) -> None:
        super().__init__()
        self.heads, self.qkv_first = config.heads, config.qkv_order == "qkv first"
        self.norm = Norm(channels, config)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.out = nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to the same shape."""
        n, c, height, width = x.shape
        qkv = self.qkv(self.norm(x).flatten(2).transpose(1, 2))
        if self.qkv_first:
            q, k, v = qkv.view(n, -1, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
        else:
            q, k, v = qkv.view(n, -1, self.heads, 3, c // self.heads).permute(3, 0, 2, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v)
        y = self.out(y.transpose(1, 2).reshape(n, -1, c))
        return x + y.transpose(1, 2).view(n, c, height, width)


class Downsample(nn.Conv2d):
    """A convolution of stride 2; rows of zeros before and after as the config has them."""

    def __init__(self, channels: int, config: UNetConfig) -> None:
        self.even = config.down_pad == (1, 1)
        super().__init__(channels, channels, 3, stride=2, padding=1 if self.even else 0)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C, H/2, W/2)."""
        return super().forward(x if self.even else F.pad(x, (0, 1, 0, 1)))


class Upsample(nn.Conv2d):
    """Nearest neighbour, then a convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C, 2H, 2W)."""
        return super().forward(F.interpolate(x, scale_factor=2.0, mode="nearest"))


class TimeMlp(nn.Module):
    """The embedding of the time that all blocks share."""

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        dim = config.channels[0]
        exponents = np.arange(dim // 2, dtype=np.float32) / (dim // 2 - config.embedding_shift)
        omega = config.time_scale * np.exp(-np.log(np.float32(10000)) * exponents)
        self.register_buffer("omega", torch.from_numpy(omega), persistent=False)
        self.cos_first = config.embedding_order == "cos|sin"
        self.hidden, self.out = nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, 4 * dim)

    def forward(self, t: Tensor) -> Tensor:
        """Embed 0-based times (N,) as (N, E)."""
        angle = t[:, None] * self.omega
        halves = (angle.cos(), angle.sin()) if self.cos_first else (angle.sin(), angle.cos())
        return F.silu(self.out(F.silu(self.hidden(torch.cat(halves, dim=1)))))


class TorchUNet(nn.Module):
    """The network of ``config``: (N, C, H, W) and 0-based times (N,) to (N, C_out, H, W)."""

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.time = TimeMlp(config)
        self.conv_in = nn.Conv2d(config.in_channels, config.channels[0], 3, padding=1)
        self.width, self.skips = config.channels[0], [config.channels[0]]
        self.down = nn.ModuleDict()
        for level, width in enumerate(config.channels):
            self.down[str(level)] = self._encoder_level(level, width, config)
        self.middle = nn.ModuleDict(
            {
                "0": ResBlock(self.width, self.width, config, attention=True),
                "1": ResBlock(self.width, self.width, config, attention=False),
            }
        )
        self.up = nn.ModuleDict()
        for level, width in reversed(list(enumerate(config.channels))):
            self.up[str(level)] = self._decoder_level(level, width, config)
        self.norm_out = Norm(config.channels[0], config)
        self.conv_out = nn.Conv2d(config.channels[0], config.out_channels, 3, padding=1)

    def _encoder_level(self, level: int, width: int, config: UNetConfig) -> nn.ModuleDict:
        attention = config.sizes[level] in config.attention_at
        parts = nn.ModuleDict()
        for i in range(config.blocks):
            parts[str(i)] = ResBlock(self.width, width, config, attention=attention)
            self.width = width
            self.skips.append(width)
        if level < len(config.channels) - 1:
            parts["downsample"] = Downsample(width, config)
            self.skips.append(width)
        return parts

    def _decoder_level(self, level: int, width: int, config: UNetConfig) -> nn.ModuleDict:
        attention = config.sizes[level] in config.attention_at
        parts = nn.ModuleDict()
        for i in range(config.blocks + 1):
            c_in = self.width + self.skips.pop()
            parts[str(i)] = ResBlock(c_in, width, config, attention=attention)
            self.width = width
        if level:
            parts["upsample"] = Upsample(width)
        return parts

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """Predict from images (N, C, H, W) and 0-based times (N,)."""
        emb, h = self.time(t), self.conv_in(x)
        skips = [h]
        for level in self.down.values():
            for part in level.values():
                h = part(h, emb) if isinstance(part, ResBlock) else part(h)
                skips.append(h)
        for block in self.middle.values():
            h = block(h, emb)
        for level in self.up.values():
            for part in level.values():
                if isinstance(part, ResBlock):
                    h = part(torch.cat([h, skips.pop()], dim=1), emb)
                else:
                    h = part(h)
        return self.conv_out(F.silu(self.norm_out(h)))


def copy_values(parameters: Parameters, network: TorchUNet) -> None:
    """Give ``network`` our values, which have the same names."""
    ours = parameters.named()
    with torch.no_grad():
        for name, theirs in network.named_parameters():
            value = torch.from_numpy(ours.pop(name).value)
            if value.ndim == 4:  # (kh, kw, C_in, C_out) to (C_out, C_in, kh, kw)
                value = value.permute(3, 2, 0, 1)
            theirs.copy_(value.T if value.ndim == 2 else value)
    if ours:
        raise ValueError(f"PyTorch's network lacks {', '.join(ours)}")
