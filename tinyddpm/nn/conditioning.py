"""The two ways in which the time enters a residual block: between its first convolution and its
second, where the norm and SiLU are.

add            silu(group_norm(h + e)),                     e = linear(emb)            Ho et al.
scale-shift    silu(group_norm(h) (1 + scale) + shift),     [scale | shift] = linear(emb)
                                                                     Nichol & Dhariwal, app. A

h = conv1(x). Neither way needs an op of its own. What is added, e, is the same for all pixels of an
image, so it is a bias of conv1, another one for each image; the linear layer that makes it adds
conv1's own bias to it. Scale and shift change the weight and the bias of the norm, of which each
image then has its own (see ``ops.scale_shift``).
"""

from __future__ import annotations

from typing import Any, NamedTuple, final

from tinyddpm.arrays import Array, xp_of
from tinyddpm.nn.config import UNetConfig
from tinyddpm.nn.layers import Builder, Conv2d, GroupNorm, Linear


class TimeSaved(NamedTuple):
    """What the projection, the convolution and the norm keep; alike for both ways."""

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
        self.conv = Conv2d(build, f"{name}.conv1", c_in, c_out, for_norm=True)
        self.project = Linear(build, f"{name}.time", config.embedding_width, c_out)
        self.norm = GroupNorm(
            build, f"{name}.norm2", c_out, groups=groups, norm_eps=norm_eps, silu=True
        )

    def forward(self, x: Array, emb: Array) -> tuple[Array, TimeSaved]:
        """Map ``x`` (N, H, W, C_in) and ``emb`` (N, E) to (N, H, W, C_out)."""
        biases, project = self.project.forward(emb, self.conv.bias)
        h, conv = self.conv.forward_with(biases, x)
        y, norm = self.norm.forward(h)
        return y, TimeSaved(project, conv, norm)

    def backward(
        self, dy: Array, saved: TimeSaved, demb: Array | None = None
    ) -> tuple[Array, Array]:
        """Return ``(dx, demb)``; the ``demb`` of the later blocks is added to this block's."""
        dh = self.norm.backward(dy, saved.norm)
        dx, dbiases = self.conv.backward_with(dh, saved.conv)
        return dx, self.project.backward(dbiases, saved.project, self.conv.bias, dskip=demb)


@final
class ScaleShiftTime:
    """y = silu(group_norm(conv1(x)) (1 + scale) + shift), [scale | shift] = linear(emb)."""

    def __init__(
        self, build: Builder, name: str, c_in: int, c_out: int, config: UNetConfig
    ) -> None:
        groups, norm_eps = config.groups, config.norm_eps
        self.channels = c_out
        self.conv = Conv2d(build, f"{name}.conv1", c_in, c_out, for_norm=True)
        self.project = Linear(build, f"{name}.time", config.embedding_width, 2 * c_out)
        self.norm = GroupNorm(
            build, f"{name}.norm2", c_out, groups=groups, norm_eps=norm_eps, silu=True
        )

    def forward(self, x: Array, emb: Array) -> tuple[Array, TimeSaved]:
        """Map ``x`` (N, H, W, C_in) and ``emb`` (N, E) to (N, H, W, C_out)."""
        e, project = self.project.forward(emb)
        scale, shift = e[:, : self.channels], e[:, self.channels :]
        h, conv = self.conv.forward(x)
        y, norm = self.norm.forward_modulated(h, scale, shift)
        return y, TimeSaved(project, conv, norm)

    def backward(
        self, dy: Array, saved: TimeSaved, demb: Array | None = None
    ) -> tuple[Array, Array]:
        """Return ``(dx, demb)``; the ``demb`` of the later blocks is added to this block's."""
        dh, dscale, dshift = self.norm.backward_modulated(dy, saved.norm)
        de = xp_of(dy).concatenate([dscale, dshift], axis=1)
        dx = self.conv.backward(dh, saved.conv)
        return dx, self.project.backward(de, saved.project, dskip=demb)
