"""The levels of the U-Net: what happens at one resolution, on the way down and on the way up."""

from __future__ import annotations

from typing import Any, NamedTuple, final

from tinyddpm.arrays import Array
from tinyddpm.nn.blocks import AttentionBlock, Downsample, ResBlock, Upsample
from tinyddpm.nn.masks import Masks
from tinyddpm.ops.kernels import Joined, Kernels


class StageSaved(NamedTuple):
    """What the block and its attention keep."""

    block: Any
    attention: Any


@final
class Stage:
    """A residual block, followed by attention at the resolutions that have it."""

    def __init__(self, block: ResBlock, attention: AttentionBlock | None) -> None:
        self.block, self.attention = block, attention

    def forward(
        self, h: Array | Joined, emb: Array, masks: Masks | None
    ) -> tuple[Array, StageSaved]:
        """Map ``h`` (N, H, W, C_in) to (N, H, W, C_out)."""
        h, block = self.block.forward(h, emb, masks)
        attention = None
        if self.attention:
            h, attention = self.attention.forward(h)
        return h, StageSaved(block, attention)

    def backward(
        self, dh: Array, saved: StageSaved, demb: Array | None
    ) -> tuple[Array | Joined, Array]:
        """Return ``(dh, demb)``; the ``demb`` of the later stages is added to this stage's."""
        if self.attention:
            dh = self.attention.backward(dh, saved.attention)
        return self.block.backward(dh, saved.block, demb)


class EncoderLevelSaved(NamedTuple):
    """What the stages and the downsampling keep."""

    stages: list[StageSaved]
    downsample: Any

    def copied(self) -> EncoderLevelSaved:
        """Return the same with a list of its own."""
        return self._replace(stages=self.stages.copy())


@final
class EncoderLevel:
    """Stages, then a downsampling except on the deepest level. Every output is a skip."""

    def __init__(self, stages: list[Stage], downsample: Downsample | None) -> None:
        self.stages, self.downsample = stages, downsample

    def forward(
        self, h: Array, emb: Array, masks: Masks | None, skips: list[Array]
    ) -> tuple[Array, EncoderLevelSaved]:
        """Map ``h`` (N, H, W, C) to the next level's, and append each output to ``skips``."""
        stages = []
        for stage in self.stages:
            h, saved = stage.forward(h, emb, masks)
            stages.append(saved)
            skips.append(h)
        downsample = None
        if self.downsample:
            h, downsample = self.downsample.forward(h)
            skips.append(h)
        return h, EncoderLevelSaved(stages, downsample)

    def backward(
        self, dh: Array, saved: EncoderLevelSaved, demb: Array, dskips: list[Array]
    ) -> tuple[Array, Array]:
        """Return ``(dh, demb)``; the ``demb`` given is added to this level's.

        The stages are popped from ``saved``, the gradients of this level's skips from ``dskips``.
        """
        if self.downsample:
            dh = self.downsample.backward(dh + dskips.pop(), saved.downsample)
        for stage in reversed(self.stages):
            dh, demb = stage.backward(dh + dskips.pop(), saved.stages.pop(), demb)
        return dh, demb


class DecoderLevelSaved(NamedTuple):
    """What the joins, the stages and the upsampling keep."""

    joins: list[Any]
    stages: list[StageSaved]
    upsample: Any

    def copied(self) -> DecoderLevelSaved:
        """Return the same with lists of its own."""
        return self._replace(joins=self.joins.copy(), stages=self.stages.copy())


@final
class DecoderLevel:
    """Stages, each on [h | skip], then an upsampling except at the full resolution."""

    def __init__(self, kernels: Kernels, stages: list[Stage], upsample: Upsample | None) -> None:
        self.kernels, self.stages, self.upsample = kernels, stages, upsample

    def forward(
        self, h: Array, emb: Array, masks: Masks | None, skips: list[Array]
    ) -> tuple[Array, DecoderLevelSaved]:
        """Map ``h`` (N, H, W, C) to the next level's, popping one of ``skips`` for each stage."""
        joins, stages = [], []
        for stage in self.stages:
            h, join = self.kernels.concat(h, skips.pop())
            h, saved = stage.forward(h, emb, masks)
            joins.append(join)
            stages.append(saved)
        upsample = None
        if self.upsample:
            h, upsample = self.upsample.forward(h)
        return h, DecoderLevelSaved(joins, stages, upsample)

    def backward(
        self, dh: Array, saved: DecoderLevelSaved, demb: Array | None, dskips: list[Array]
    ) -> tuple[Array, Array | None]:
        """Return ``(dh, demb)``; the ``demb`` given is added to this level's.

        The stages and joins are popped from ``saved``, and the gradients of the skips that this
        level took are appended to ``dskips``.
        """
        if self.upsample:
            dh = self.upsample.backward(dh, saved.upsample)
        for stage in reversed(self.stages):
            dh, demb = stage.backward(dh, saved.stages.pop(), demb)
            dh, dskip = self.kernels.concat_backward(dh, saved.joins.pop())
            dskips.append(dskip)
        return dh, demb
