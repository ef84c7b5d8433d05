"""The U-Net of Ho et al. 2020 (arXiv 2006.11239, appendix B) and Nichol & Dhariwal 2021.

    encoder      conv_in; on each level: residual blocks (with attention), then a downsampling
    middle       residual block, attention, residual block
    decoder      on each level: one block more, each on [h | skip]; then an upsampling
    out          group_norm_silu, conv_out

Every output of the encoder (of conv_in, of each block, of each downsampling) is a skip, and the
decoder takes them up in reverse.
"""

from __future__ import annotations

from typing import Any, NamedTuple, final

import numpy as np
import numpy.typing as npt

from tinyddpm.arrays import Array, IntArray, xp_of
from tinyddpm.errors import UsageError
from tinyddpm.nn.blocks import AttentionBlock, Downsample, ResBlock, Upsample
from tinyddpm.nn.config import UNetConfig
from tinyddpm.nn.embedding import EmbeddingMlp
from tinyddpm.nn.layers import Builder, Conv2d, GroupNorm
from tinyddpm.nn.levels import (
    DecoderLevel,
    DecoderLevelSaved,
    EncoderLevel,
    EncoderLevelSaved,
    Stage,
    StageSaved,
)
from tinyddpm.nn.masks import Masks
from tinyddpm.nn.parameters import Parameters, Slot
from tinyddpm.ops.kernels import Kernels, keeping_nothing, reference


class UNetSaved(NamedTuple):
    """What every part keeps, each list in the order of the forward."""

    embedding: Any
    conv_in: Any
    down: list[EncoderLevelSaved]
    middle: list[StageSaved]
    up: list[DecoderLevelSaved]
    norm_out: Any
    conv_out: Any


@final
class UNet:
    """A noise-prediction network: ``forward(x, t)`` and its hand-written ``backward``.

    ``config`` says whether it is that of Ho et al. 2020 (appendix B), that of Nichol & Dhariwal
    2021, or another.

    Args:
        config: the shape.
        seed: of the initial values.
        kernels: what computes the layers (see ``ops.kernels``).
        dtype: of the parameters; float32, float64 or, for certificates, complex128.
        values: a flat buffer with the values, instead of drawing them; it is not copied, so two
            networks can share it.
        grads: a flat buffer for the gradients, instead of new zeros; it is not copied either.

    Attributes:
        parameters: the flat store (``.value``, ``.grad``, ``.named()``, ``.count``).

    Raises:
        UsageError: ``config`` is no UNetConfig, or ``kernels`` no table.
    """

    def __init__(
        self,
        config: UNetConfig,
        seed: int = 0,
        *,
        kernels: Kernels = reference,
        dtype: npt.DTypeLike = np.float32,
        values: Array | None = None,
        grads: Array | None = None,
    ) -> None:
        _check_kinds(config, kernels)
        self.config, self.kernels = config, kernels
        self.parameters = Parameters()
        build = _StageBuilder(Builder(self.parameters, kernels), config)
        first, groups, norm_eps = config.channels[0], config.groups, config.norm_eps
        self.embedding = EmbeddingMlp(build.layers, config)
        self.conv_in = Conv2d(build.layers, "conv_in", config.in_channels, first)
        self.down = build.encoder()
        self.middle = build.middle()
        self.up = build.decoder()
        self.norm_out = GroupNorm(
            build.layers, "norm_out", first, groups=groups, norm_eps=norm_eps, silu=True
        )
        zero = config.zero_init
        self.conv_out = Conv2d(build.layers, "conv_out", first, config.out_channels, zero=zero)
        if values is None:
            values = self.parameters.initial_values(seed, dtype)
        self.parameters.bind(values, grads)

    def __deepcopy__(self, memo: dict[int, Any]) -> UNet:
        """Return a network with values and gradients of its own, again in flat buffers.

        Python's own deep copy would copy each parameter by itself, and its value would then be no
        view of the flat buffer.
        """
        value, grad = self.parameters.value.copy(), self.parameters.grad.copy()
        return UNet(self.config, kernels=self.kernels, values=value, grads=grad)

    def replica(self) -> tuple[UNet, list[Slot]]:
        """Return a network with the same values, in the same memory, and a slot for the gradient
        of each parameter, in their order.

        Its backward fills the slots, and writes nothing to the flat ``grad``, which is this
        network's.
        """
        shared = self.parameters
        twin = UNet(self.config, kernels=self.kernels, values=shared.value, grads=shared.grad)
        return twin, twin.parameters.open_slots()

    def forward_only(self) -> UNet:
        """Return a network with the same values, in the same memory, for predictions alone.

        Its forward saves next to nothing, so that it has no backward.
        """
        kernels, shared = keeping_nothing(self.kernels), self.parameters
        return UNet(self.config, kernels=kernels, values=shared.value, grads=shared.grad)

    def forward(
        self,
        x: Array,
        t: IntArray | Array,
        *,
        labels: IntArray | None = None,
        masks: Masks | None = None,
        prepare: bool = True,
    ) -> tuple[Array, UNetSaved]:
        """Predict from noised images.

        Args:
            x: (N, H, W, C_in).
            t: (N,), the 0-based time that published networks are fed: the paper's t − 1.
            labels: (N,), for a network with classes: the class of each image, or ``config.classes``
                for no class, as it is for all images without ``labels``.
            masks: the randomness of dropout; without it nothing is dropped.
            prepare: bring prepared weights up to date first; a caller who has done so passes False.

        Returns:
            The prediction (N, H, W, C_out), and what ``backward`` needs.

        Raises:
            UsageError: ``x`` is empty, of integers, or not of the network's size and channels;
                there is not one time or label for each image; or a label is no class.
        """
        self._check_images(x, t)
        self._check_labels(labels, x)
        if prepare:
            self.parameters.prepare()
        emb, embedding = self.embedding.forward(t, labels, x)
        h, conv_in = self.conv_in.forward(x)
        skips = [h]
        down, middle, up = [], [], []
        for encoder in self.down:
            h, encoder_saved = encoder.forward(h, emb, masks, skips)
            down.append(encoder_saved)
        for stage in self.middle:
            h, stage_saved = stage.forward(h, emb, masks)
            middle.append(stage_saved)
        for decoder in self.up:
            h, decoder_saved = decoder.forward(h, emb, masks, skips)
            up.append(decoder_saved)
        h, norm_out = self.norm_out.forward(h)
        y, conv_out = self.conv_out.forward(h)
        return y, UNetSaved(embedding, conv_in, down, middle, up, norm_out, conv_out)

    def _check_images(self, x: Array, t: IntArray | Array) -> None:
        shape = self.config.image_shape
        if _shape(x)[1:] != shape or not len(x):
            expected = ", ".join(map(str, shape))
            raise UsageError(
                f"images must be an array of shape (N, {expected}), one or more",
                cause=f"got {_shape(x)}",
            )
        if x.dtype.kind not in "fc":
            raise UsageError(
                "images must be floating-point numbers",
                cause=f"their dtype is {x.dtype}",
                remedy="scale bytes to [-1, 1] first",
            )
        if _shape(t) != x.shape[:1]:
            raise UsageError(
                f"times must be an array of shape ({len(x)},), one an image",
                cause=f"got {_shape(t)}",
            )

    def _check_labels(self, labels: IntArray | None, x: Array) -> None:
        if labels is None:
            return
        if not self.config.classes:
            raise UsageError("labels were given to a network without classes")
        if _shape(labels) != x.shape[:1] or labels.dtype.kind not in "iu":
            raise UsageError(
                f"labels must be an array of {len(x)} integers, one an image", cause=f"got {labels}"
            )
        if xp_of(labels) is not np:
            return  # looking at their values would make the host wait
        if labels.min() < 0 or labels.max() > self.config.classes:
            raise UsageError(f"labels must lie in 0 … {self.config.classes}: got {labels}")

    def backward(self, dy: Array, saved: UNetSaved, *, use_up: bool = False) -> Array:
        """Add to all gradients, for ``dy`` (N, H, W, C_out), and return ``dx``.

        With ``use_up`` what a stage has saved is freed as soon as its gradients are found, so that
        later gradients can take its memory; ``saved`` is then good for this one backward.
        """
        down, middle, up = saved.down, saved.middle, saved.up
        if not use_up:
            down, middle, up = [s.copied() for s in down], middle.copy(), [s.copied() for s in up]
        dh = self.conv_out.backward(dy, saved.conv_out)
        dh = self.norm_out.backward(dh, saved.norm_out)
        dskips: list[Array] = []
        demb: Any = None
        for decoder in reversed(self.up):
            dh, demb = decoder.backward(dh, up.pop(), demb, dskips)
        for stage in reversed(self.middle):
            dh, demb = stage.backward(dh, middle.pop(), demb)
        for encoder in reversed(self.down):
            dh, demb = encoder.backward(dh, down.pop(), demb, dskips)
        self.embedding.backward(demb, saved.embedding)
        return self.conv_in.backward(dh + dskips.pop(), saved.conv_in)


def _check_kinds(config: object, kernels: object) -> None:
    if not isinstance(config, UNetConfig):
        raise UsageError(
            "a network is made of a UNetConfig",
            cause=f"got {config!r}",
            remedy='UNet(UNetConfig.preset("mnist"))',
        )
    if not isinstance(kernels, Kernels):
        raise UsageError(
            "the kernels of a network are a table of functions",
            cause=f"got {kernels!r}",
            remedy="tinyddpm.kernels.cpu.cpu, or tinyddpm.ops.kernels.reference",
        )


def _shape(x: object) -> Any:
    """The shape of ``x``, or the name of its type if it is not an array."""
    return getattr(x, "shape", type(x).__name__)


class _StageBuilder:
    """Builds the stages in order, keeping track of the width, the resolution and the skips."""

    def __init__(self, layers: Builder, config: UNetConfig) -> None:
        self.layers, self.config = layers, config
        self.width, self.size = config.channels[0], config.image_size
        self.skip_widths = [self.width]
        self.sites = 0

    def stage(self, name: str, c_out: int, *, skip: int = 0, attention: bool) -> Stage:
        """One stage from the present width (and ``skip`` channels more) to ``c_out``."""
        c_in, self.width = self.width + skip, c_out
        self.sites += 1
        block = ResBlock(self.layers, name, c_in, c_out, self.config, site=self.sites)
        if not attention:
            return Stage(block, None)
        return Stage(block, AttentionBlock(self.layers, f"{name}.attention", c_out, self.config))

    def encoder(self) -> list[EncoderLevel]:
        """The way down; remembers the width of every skip."""
        levels = []
        for level, width in enumerate(self.config.channels):
            stages = []
            for i in range(self.config.blocks):
                attention = self.size in self.config.attention_at
                stages.append(self.stage(f"down.{level}.{i}", width, attention=attention))
                self.skip_widths.append(width)
            downsample = None
            if level < len(self.config.channels) - 1:
                name = f"down.{level}.downsample"
                downsample = Downsample(self.layers, name, width, self.config)
                self.skip_widths.append(width)
                self.size //= 2
            levels.append(EncoderLevel(stages, downsample))
        return levels

    def middle(self) -> list[Stage]:
        """Two blocks, attention between them."""
        return [
            self.stage("middle.0", self.width, attention=True),
            self.stage("middle.1", self.width, attention=False),
        ]

    def decoder(self) -> list[DecoderLevel]:
        """The way up; takes the skips in reverse."""
        levels = []
        for level, width in reversed(list(enumerate(self.config.channels))):
            stages = []
            for i in range(self.config.blocks + 1):
                attention = self.size in self.config.attention_at
                skip = self.skip_widths.pop()
                name = f"up.{level}.{i}"
                stages.append(self.stage(name, width, skip=skip, attention=attention))
            upsample = None
            if level:
                upsample = Upsample(self.layers, f"up.{level}.upsample", width)
                self.size *= 2
            levels.append(DecoderLevel(self.layers.kernels, stages, upsample))
        return levels
