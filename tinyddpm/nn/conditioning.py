"""The two ways in which the time enters a residual block, each with the norm and SiLU around it.

add            silu(group_norm(h + e)),                     e = linear(emb)            Ho et al.
scale-shift    silu(group_norm(h) (1 + scale) + shift),     [scale | shift] = linear(emb)
                                                                     Nichol & Dhariwal, app. A
"""

from __future__ import annotations

from typing import Any, NamedTuple, final

from tinyddpm.arrays import Array, xp_of
from tinyddpm.nn.config import UNetConfig
from tinyddpm.nn.layers import Builder, GroupNorm, Linear
from tinyddpm.ops.scale_shift import ScaleShiftSaved, scale_shift, scale_shift_backward


class AddTimeSaved(NamedTuple):
    """What the projection, the sum and the norm keep."""

    project: Any
    shift: Any
    norm: Any


@final
class AddTime:
    """y = silu(group_norm(h + linear(emb)))."""

    def __init__(self, build: Builder, name: str, channels: int, config: UNetConfig) -> None:
        groups, norm_eps = config.groups, config.norm_eps
        self.kernels = build.kernels
        self.project = Linear(build, f"{name}.time", 4 * config.channels[0], channels)
        self.norm = GroupNorm(
            build, f"{name}.norm2", channels, groups=groups, norm_eps=norm_eps, silu=True
        )

    def forward(self, h: Array, emb: Array) -> tuple[Array, AddTimeSaved]:
        """Map ``h`` (N, H, W, C) and ``emb`` (N, E) to (N, H, W, C)."""
        e, project = self.project.forward(emb)
        h, shift = self.kernels.channel_shift(h, e)
        y, norm = self.norm.forward(h)
        return y, AddTimeSaved(project, shift, norm)

    def backward(self, dy: Array, saved: AddTimeSaved) -> tuple[Array, Array]:
        """Return ``(dh, demb)``."""
        dh = self.norm.backward(dy, saved.norm)
        dh, de = self.kernels.channel_shift_backward(dh, saved.shift)
        return dh, self.project.backward(de, saved.project)


class ScaleShiftTimeSaved(NamedTuple):
    """What the projection, the norm, the modulation and the SiLU keep."""

    project: Any
    norm: Any
    modulation: ScaleShiftSaved
    act: Any


@final
class ScaleShiftTime:
    """y = silu(group_norm(h) (1 + scale) + shift), [scale | shift] = linear(emb)."""

    def __init__(self, build: Builder, name: str, channels: int, config: UNetConfig) -> None:
        groups, norm_eps = config.groups, config.norm_eps
        self.kernels, self.channels = build.kernels, channels
        self.project = Linear(build, f"{name}.time", 4 * config.channels[0], 2 * channels)
        self.norm = GroupNorm(build, f"{name}.norm2", channels, groups=groups, norm_eps=norm_eps)

    def forward(self, h: Array, emb: Array) -> tuple[Array, ScaleShiftTimeSaved]:
        """Map ``h`` (N, H, W, C) and ``emb`` (N, E) to (N, H, W, C)."""
        e, project = self.project.forward(emb)
        scale, shift = e[:, : self.channels], e[:, self.channels :]
        h, norm = self.norm.forward(h)
        h, modulation = scale_shift(h, scale, shift)
        y, act = self.kernels.silu(h)
        return y, ScaleShiftTimeSaved(project, norm, modulation, act)

    def backward(self, dy: Array, saved: ScaleShiftTimeSaved) -> tuple[Array, Array]:
        """Return ``(dh, demb)``."""
        dh = self.kernels.silu_backward(dy, saved.act)
        dh, dscale, dshift = scale_shift_backward(dh, saved.modulation)
        dh = self.norm.backward(dh, saved.norm)
        de = xp_of(dy).concatenate([dscale, dshift], axis=1)
        return dh, self.project.backward(de, saved.project)
