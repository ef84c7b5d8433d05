"""The two ways in which the time enters a residual block: between its first convolution and its
second, where the norm and SiLU are.

add            silu(group_norm(h + e)),                     e = linear(emb)            Ho et al.
scale-shift    silu(group_norm(h) (1 + scale) + shift),     [scale | shift] = linear(emb)
                                                                     Nichol & Dhariwal, app. A
h = conv1(x); e is added to it as a bias of each image.
"""

from __future__ import annotations

from typing import Any, NamedTuple, final

from tinyddpm.arrays import Array, xp_of
from tinyddpm.nn.config import UNetConfig
from tinyddpm.nn.layers import Builder, Conv2d, GroupNorm, Linear
from tinyddpm.ops.scale_shift import ScaleShiftSaved, scale_shift, scale_shift_backward


class AddTimeSaved(NamedTuple):
    """What the projection, the convolution and the norm keep."""

    project: Any
    conv: Any
    norm: Any


@final
class AddTime:
    """y = silu(group_norm(conv1(x) + linear(emb)))."""

    def __init__(
        self, build: Builder, name: str, c_in: int, c_out: int, config: UNetConfig
    ) -> None:
        groups, norm_eps = config.groups, config.norm_eps
        self.conv = Conv2d(build, f"{name}.conv1", c_in, c_out)
        self.project = Linear(build, f"{name}.time", 4 * config.channels[0], c_out)
        self.norm = GroupNorm(
            build, f"{name}.norm2", c_out, groups=groups, norm_eps=norm_eps, silu=True
        )

    def forward(self, x: Array, emb: Array) -> tuple[Array, AddTimeSaved]:
        """Map ``x`` (N, H, W, C_in) and ``emb`` (N, E) to (N, H, W, C_out)."""
        e, project = self.project.forward(emb)
        h, conv = self.conv.forward_shifted(x, e)
        y, norm = self.norm.forward(h)
        return y, AddTimeSaved(project, conv, norm)

    def backward(self, dy: Array, saved: AddTimeSaved) -> tuple[Array, Array]:
        """Return ``(dx, demb)``."""
        dh = self.norm.backward(dy, saved.norm)
        dx, de = self.conv.backward_shifted(dh, saved.conv)
        return dx, self.project.backward(de, saved.project)


class ScaleShiftTimeSaved(NamedTuple):
    """What the projection, the convolution, the norm, the modulation and the SiLU keep."""

    project: Any
    conv: Any
    norm: Any
    modulation: ScaleShiftSaved
    act: Any


@final
class ScaleShiftTime:
    """y = silu(group_norm(conv1(x)) (1 + scale) + shift), [scale | shift] = linear(emb)."""

    def __init__(
        self, build: Builder, name: str, c_in: int, c_out: int, config: UNetConfig
    ) -> None:
        groups, norm_eps = config.groups, config.norm_eps
        self.kernels, self.channels = build.kernels, c_out
        self.conv = Conv2d(build, f"{name}.conv1", c_in, c_out)
        self.project = Linear(build, f"{name}.time", 4 * config.channels[0], 2 * c_out)
        self.norm = GroupNorm(build, f"{name}.norm2", c_out, groups=groups, norm_eps=norm_eps)

    def forward(self, x: Array, emb: Array) -> tuple[Array, ScaleShiftTimeSaved]:
        """Map ``x`` (N, H, W, C_in) and ``emb`` (N, E) to (N, H, W, C_out)."""
        e, project = self.project.forward(emb)
        scale, shift = e[:, : self.channels], e[:, self.channels :]
        h, conv = self.conv.forward(x)
        h, norm = self.norm.forward(h)
        h, modulation = scale_shift(h, scale, shift)
        y, act = self.kernels.silu(h)
        return y, ScaleShiftTimeSaved(project, conv, norm, modulation, act)

    def backward(self, dy: Array, saved: ScaleShiftTimeSaved) -> tuple[Array, Array]:
        """Return ``(dx, demb)``."""
        dh = self.kernels.silu_backward(dy, saved.act)
        dh, dscale, dshift = scale_shift_backward(dh, saved.modulation)
        dh = self.norm.backward(dh, saved.norm)
        de = xp_of(dy).concatenate([dscale, dshift], axis=1)
        return self.conv.backward(dh, saved.conv), self.project.backward(de, saved.project)
