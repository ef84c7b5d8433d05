"""The network of improved-diffusion (Nichol & Dhariwal 2021) in PyTorch, written from its
description and named as its checkpoints are. For the comparison in ``test_peer_torch.py``.
"""

import math

import pytest

torch = pytest.importorskip("torch")
nn, F = torch.nn, torch.nn.functional

NORM_EPS = 1e-5
CHAIN = 4000  # steps, of which the network is told t · 1000/4000


def norm(channels, groups):
    return nn.GroupNorm(groups, channels, eps=NORM_EPS)


class ResBlock(nn.Module):
    def __init__(self, c_in, c_out, c_emb, groups):
        super().__init__()
        conv1, conv2 = (nn.Conv2d(c, c_out, 3, padding=1) for c in (c_in, c_out))
        self.in_layers = nn.Sequential(norm(c_in, groups), nn.SiLU(), conv1)
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(c_emb, 2 * c_out))
        self.out_layers = nn.Sequential(norm(c_out, groups), nn.SiLU(), nn.Dropout(0.0), conv2)
        same = c_in == c_out
        self.skip_connection = nn.Identity() if same else nn.Conv2d(c_in, c_out, 1)

    def forward(self, x, emb):
        scale, shift = self.emb_layers(emb)[..., None, None].chunk(2, dim=1)
        h = self.out_layers[0](self.in_layers(x)) * (1 + scale) + shift
        return self.skip_connection(x) + self.out_layers[1:](h)


class Attention(nn.Module):
    """Cut into heads first; the 3D channels of a head are [q | k | v]."""

    def __init__(self, channels, heads, groups):
        super().__init__()
        self.heads = heads
        self.norm = norm(channels, groups)
        self.qkv = nn.Conv1d(channels, 3 * channels, 1)
        self.proj_out = nn.Conv1d(channels, channels, 1)

    def forward(self, x, _emb):
        tokens = x.flatten(2)
        per_head = self.qkv(self.norm(tokens)).unflatten(1, (self.heads, -1))
        q, k, v = per_head.chunk(3, dim=2)  # each (N, A, D, L)
        quarter = q.shape[2] ** -0.25
        p = torch.einsum("nadi,nadj->naij", q * quarter, k * quarter).softmax(dim=-1)
        mixed = torch.einsum("naij,nadj->nadi", p, v).flatten(1, 2)
        return (tokens + self.proj_out(mixed)).view_as(x)


class Down(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.op = nn.Conv2d(channels, channels, 3, stride=2, padding=1)

    def forward(self, x, _emb):
        return self.op(x)


class Up(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x, _emb):
        return self.conv(F.interpolate(x, scale_factor=2, mode="nearest"))


class First(nn.Conv2d):
    def forward(self, x, _emb):
        return super().forward(x)


def in_turn(parts, h, emb):
    for part in parts:
        h = part(h, emb)
    return h


class Improved(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.dim, self.groups, self.heads = config.channels[0], config.groups, config.heads
        self.c_emb = 4 * self.dim
        self.time_embed = nn.Sequential(
            nn.Linear(self.dim, self.c_emb), nn.SiLU(), nn.Linear(self.c_emb, self.c_emb)
        )
        self.width, self.size, self.attention_at = self.dim, config.image_size, config.attention_at
        skips = self.build_input_blocks(config)
        self.middle_block = nn.ModuleList(
            [
                self.res_block(self.width),
                Attention(self.width, self.heads, self.groups),
                self.res_block(self.width),
            ]
        )
        self.build_output_blocks(config, skips)
        last = nn.Conv2d(self.dim, config.out_channels, 3, padding=1)
        self.out = nn.Sequential(norm(self.dim, self.groups), nn.SiLU(), last)

    def res_block(self, c_out, skip=0):
        c_in, self.width = self.width + skip, c_out
        return ResBlock(c_in, c_out, self.c_emb, self.groups)

    def block(self, c_out, skip=0):
        parts = nn.ModuleList([self.res_block(c_out, skip)])
        if self.size in self.attention_at:
            parts.append(Attention(c_out, self.heads, self.groups))
        return parts

    def build_input_blocks(self, config):
        first = First(config.in_channels, self.dim, 3, padding=1)
        self.input_blocks, skips = nn.ModuleList([nn.ModuleList([first])]), [self.dim]
        for level, width in enumerate(config.channels):
            for _ in range(config.blocks):
                self.input_blocks.append(self.block(width))
                skips.append(width)
            if level < len(config.channels) - 1:
                self.input_blocks.append(nn.ModuleList([Down(width)]))
                skips.append(width)
                self.size //= 2
        return skips

    def build_output_blocks(self, config, skips):
        self.output_blocks = nn.ModuleList()
        for level, width in reversed(list(enumerate(config.channels))):
            for i in range(config.blocks + 1):
                parts = self.block(width, skips.pop())
                if level and i == config.blocks:
                    parts.append(Up(width))
                    self.size *= 2
                self.output_blocks.append(parts)

    def embed(self, t):
        half = self.dim // 2
        frequencies = [math.exp(-math.log(10000) * i / half) for i in range(half)]
        times = t.double() * (1000 / CHAIN)
        angle = times[:, None] * torch.tensor(frequencies, dtype=torch.float64)
        return self.time_embed(torch.cat([angle.cos(), angle.sin()], dim=1))

    def forward(self, x, t):
        emb, h, skips = self.embed(t), x, []
        for parts in self.input_blocks:
            h = in_turn(parts, h, emb)
            skips.append(h)
        h = in_turn(self.middle_block, h, emb)
        for parts in self.output_blocks:
            h = in_turn(parts, torch.cat([h, skips.pop()], dim=1), emb)
        return self.out(h)
