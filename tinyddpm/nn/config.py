"""The shape of a U-Net, and the named shapes.

The switches cover two published families exactly: Ho et al. 2020 as re-implemented by Hugging Face
(``UNet2DModel``), and OpenAI's improved-diffusion (Nichol & Dhariwal 2021).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, get_args

import numpy as np

from tinyddpm.errors import UsageError
from tinyddpm.ops.attention import QkvOrder
from tinyddpm.ops.time_embedding import EmbeddingOrder

Conditioning = Literal["add", "scale-shift"]
_CHOICES = {
    "qkv_order": get_args(QkvOrder),
    "embedding_order": get_args(EmbeddingOrder),
    "conditioning": get_args(Conditioning),
    "down_pad": ((1, 1), (0, 1)),
}
_TUPLES = ("channels", "attention_at")
_WHOLE = (
    "image_size",
    "in_channels",
    "out_channels",
    "blocks",
    "heads",
    "groups",
    "embedding_shift",
    "classes",
)


@dataclass(frozen=True, kw_only=True)
class UNetConfig:
    """The shape of a U-Net.

    Attributes:
        image_size: height and width in pixels, divisible by 2^(levels − 1).
        in_channels: channels of the image.
        out_channels: channels of the prediction; twice as many where a variance is learned.
        channels: width of each level, from the full resolution down.
        blocks: residual blocks per level on the way down; one more on the way up.
        attention_at: the resolutions, in pixels, that have attention; the middle always has it.
        heads: attention heads; their number divides each width that has attention.
        qkv_order: order of the 3C channels of q, k and v (see ``ops.attention``).
        groups: groups of every GroupNorm; their number divides each width.
        norm_eps: its ε.
        embedding_order: halves of the sinusoidal embedding.
        embedding_shift: its frequencies are 10000^(−i/(half − shift)).
        classes: the number of classes that the network is told of, 0 for none. Label ``classes``
            is the null label, which means no class.
        time_scale: the network's time is multiplied by this (1000/T in improved-diffusion).
        conditioning: how time enters a residual block.
        down_pad: zero rows (and columns) before and after the image in stride-2 convolutions.
        dropout: rate before the second convolution of each block.
        zero_init: start the last convolution of each branch, and of the network, at zero.
    """

    image_size: int
    in_channels: int = 1
    out_channels: int = 1
    channels: tuple[int, ...]
    blocks: int = 1
    attention_at: tuple[int, ...] = ()
    heads: int = 1
    qkv_order: QkvOrder = "qkv first"
    groups: int = 32
    norm_eps: float = 1e-5
    embedding_order: EmbeddingOrder = "cos|sin"
    embedding_shift: int = 0
    classes: int = 0
    time_scale: float = 1.0
    conditioning: Conditioning = "add"
    down_pad: tuple[int, int] = (1, 1)
    dropout: float = 0.0
    zero_init: bool = True

    def __post_init__(self) -> None:
        """Refuse shapes that no network can have."""
        use_python_numbers(self)
        self._check_kinds()
        self._check_size()
        self._check_choices()
        widths = zip(self.channels, self.sizes, strict=True)
        attended = {c for c, size in widths if size in self.attention_at} | {self.channels[-1]}
        _check_divides("groups", self.groups, self.channels)
        _check_divides("heads", self.heads, tuple(sorted(attended)))
        if not 0 <= self.dropout < 1:
            raise UsageError(f"dropout must lie in [0, 1): got {self.dropout}")
        for name, number in (("norm_eps", self.norm_eps), ("time_scale", self.time_scale)):
            if not 0 < number < math.inf:
                raise UsageError(f"{name} must be positive: got {number}")
        if min(self.blocks, self.in_channels, self.out_channels, self.classes + 1) < 1:
            raise UsageError("blocks and channels must be at least 1, classes at least 0")
        if self.channels[0] % 2:
            raise UsageError(f"the first width must be even, for sin and cos: got {self.channels}")
        if not 0 <= self.embedding_shift < self.channels[0] // 2:
            raise UsageError(
                "embedding_shift must be less than half of the first width, and not negative: "
                f"got {self.embedding_shift} for {self.channels}"
            )

    def _check_kinds(self) -> None:
        for name in _TUPLES:
            numbers = getattr(self, name)
            if not isinstance(numbers, tuple):
                raise UsageError(
                    f"{name} must be a tuple: got {numbers!r}", remedy="(14, 7), or (14,) for one"
                )
            if not all(map(_is_whole, numbers)):
                raise UsageError(f"{name} must be whole numbers: got {numbers!r}")
        for name in _WHOLE:
            number = getattr(self, name)
            if not _is_whole(number):
                raise UsageError(f"{name} must be a whole number: got {number!r}")

    def _check_choices(self) -> None:
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                known = ", ".join(map(repr, choices))
                raise UsageError(f"unknown {name} {getattr(self, name)!r}", remedy=known)

    @property
    def sizes(self) -> tuple[int, ...]:
        """The resolution of each level, in pixels."""
        return tuple(self.image_size >> level for level in range(len(self.channels)))

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(H, W, C_in)."""
        return self.image_size, self.image_size, self.in_channels

    @property
    def embedding_width(self) -> int:
        """The features in which time and class reach a residual block: 4·C₀."""
        return 4 * self.channels[0]

    @property
    def divisor(self) -> int:
        """What the image size must be divisible by: 2^(levels − 1)."""
        return 1 << (len(self.channels) - 1)

    def _check_size(self) -> None:
        if not self.channels or min(self.channels) < 1:
            raise UsageError(f"channels must be one positive width per level: got {self.channels}")
        factor = self.divisor
        if self.image_size < factor or self.image_size % factor:
            below = max(self.image_size // factor * factor, factor)
            raise UsageError(
                f"a network of {len(self.channels)} levels halves the image "
                f"{len(self.channels) - 1} times: {self.image_size} pixels are not divisible "
                f"by {factor}",
                remedy=f"an image size of {below} or {below + factor}, or fewer levels",
            )
        if not set(self.attention_at) <= set(self.sizes):
            raise UsageError(
                f"attention_at must name resolutions of the levels, {self.sizes}: "
                f"got {self.attention_at}"
            )

    def resized(self, size: int) -> UNetConfig:
        """Return the network for images of ``size`` pixels, attention on the levels where it was.

        Raises:
            UsageError: the network cannot halve them as often as it has to.
        """
        levels = [self.sizes.index(pixels) for pixels in self.attention_at]
        attention_at = tuple(size >> level for level in levels)
        return replace(self, image_size=size, attention_at=attention_at)

    @classmethod
    def preset(cls, name: str) -> UNetConfig:
        """Return a named shape.

        Raises:
            UsageError: no such name; the message lists those there are.
        """
        if name not in PRESETS:
            known = ", ".join(PRESETS)
            raise UsageError(f"unknown preset {name!r}", remedy=f"one of {known}")
        return PRESETS[name]


def use_python_numbers(config: Any) -> None:
    """Put Python's numbers in the place of NumPy's in ``config``, a frozen dataclass.

    NumPy's would make float64 of float32 arrays, overflow if their type is small, and are no JSON.
    """
    for field in fields(config):
        object.__setattr__(config, field.name, _as_python(getattr(config, field.name)))


def _as_python(value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(map(_as_python, value))
    return value.item() if isinstance(value, np.generic) else value


def _is_whole(number: object) -> bool:
    return isinstance(number, int)


def _check_divides(name: str, divisor: int, widths: tuple[int, ...]) -> None:
    if divisor < 1 or any(c % divisor for c in widths):
        raise UsageError(f"{name} must divide every width of {widths}: got {divisor}")


PRESETS: dict[str, UNetConfig] = {
    "glyphs": UNetConfig(
        image_size=16,
        channels=(16, 32),
        attention_at=(8,),
        groups=8,
    ),
    "mnist": UNetConfig(
        image_size=28,
        channels=(16, 32, 32),
        attention_at=(7,),
        groups=8,
    ),
    # The network of the Hugging Face diffusion course: 1,707,009 parameters.
    "mnist-1.7m": UNetConfig(
        image_size=28,
        channels=(32, 64, 64),
        blocks=2,
        attention_at=(14, 7),
        heads=8,
        zero_init=False,
    ),
    # Ho et al. 2020: 35,746,307 parameters.
    "cifar10": UNetConfig(
        image_size=32,
        in_channels=3,
        out_channels=3,
        channels=(128, 256, 256, 256),
        blocks=2,
        attention_at=(16,),
        norm_eps=1e-6,
        embedding_order="sin|cos",
        embedding_shift=1,
        down_pad=(0, 1),
        dropout=0.1,
    ),
    # Nichol & Dhariwal 2021, learned variance: 52,546,438 parameters.
    "cifar10-improved": UNetConfig(
        image_size=32,
        in_channels=3,
        out_channels=6,
        channels=(128, 256, 256, 256),
        blocks=3,
        attention_at=(16, 8),
        heads=4,
        qkv_order="heads first",
        time_scale=0.25,
        conditioning="scale-shift",
        dropout=0.3,
    ),
}
