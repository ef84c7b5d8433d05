"""The network: the U-Net with its shapes, drawn from its config, and the embedding of t."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tinyddpm.figures.style import BLUE, GREEN, GREY, INK, ORANGE, PURPLE, arrow, box, label, panels
from tinyddpm.nn.config import PRESETS, UNetConfig
from tinyddpm.ops.time_embedding import time_embedding

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# In units of the drawing: the encoder's boxes stand at x = 0, the decoder's at _RIGHT.
_RIGHT, _ROW = 5.6, 1.45
_WIDTH, _HEIGHT = 1.9, 0.85


def unet(config: UNetConfig = PRESETS["mnist"]) -> Figure:
    """The U-Net of ``config``: a row for each level, the encoder left, the decoder right."""
    levels = len(config.channels)
    figure, (axes,) = panels(1, width=9.6, height=1.25 * (levels + 1) + 0.6)
    axes.set_axis_off()
    for level in range(levels):
        _level(axes, config, level)
    _bottleneck(axes, config)
    _ends(axes, config)
    axes.set(xlim=(-3.1, _RIGHT + 3.1), ylim=(-_ROW * levels - 1.05, 0.95))
    return figure


def _level(axes: Axes, config: UNetConfig, level: int) -> None:
    """One resolution: its two boxes, the skips between, and the ways down and up to the next."""
    y, size, blocks = -_ROW * level, config.sizes[level], config.blocks
    attention = ["with attention"] if size in config.attention_at else []
    shape = f"{size} × {size} × {config.channels[level]}"
    for x, count, colour in ((0.0, blocks, BLUE), (_RIGHT, blocks + 1, GREEN)):
        box(axes, (x, y), (_WIDTH, _HEIGHT), colour)
        _write(axes, x, y, [f"{count} ResBlock{'s' * (count > 1)}", *attention, shape])
    arrow(axes, (_WIDTH / 2, y), (_RIGHT - _WIDTH / 2, y), GREY, "--")
    # The blocks' outputs, and what comes in: of conv_in, or of the level above, halved.
    _note(axes, _RIGHT / 2, y + 0.13, f"{blocks + 1} skips of {size} × {size}", GREY)
    if level < len(config.channels) - 1:
        above, below, middle = y - _HEIGHT / 2, y - _ROW + _HEIGHT / 2, y - _ROW / 2
        arrow(axes, (0, above), (0, below), BLUE)
        arrow(axes, (_RIGHT, below), (_RIGHT, above), GREEN)
        _note(axes, 0.12, middle, "3×3 convolution, stride 2", BLUE, "left")
        _note(axes, _RIGHT - 0.12, middle, "pixels doubled, 3×3 convolution", GREEN, "right")


def _bottleneck(axes: Axes, config: UNetConfig) -> None:
    y, x = -_ROW * len(config.channels), _RIGHT / 2
    size, wide = config.sizes[-1], 2.7
    box(axes, (x, y), (wide, _HEIGHT), ORANGE)
    shape = f"{size} × {size} × {config.channels[-1]}"
    _write(axes, x, y, ["ResBlock, attention, ResBlock", shape])
    floor = y + _ROW - _HEIGHT / 2
    axes.plot([0, 0], [floor, y], color=ORANGE, linewidth=1.3)
    arrow(axes, (0, y), (x - wide / 2, y), ORANGE)
    axes.plot([x + wide / 2, _RIGHT], [y, y], color=ORANGE, linewidth=1.3)
    arrow(axes, (_RIGHT, y), (_RIGHT, floor), ORANGE)
    first = config.channels[0]
    embedding = f"t  →  {first} sines and cosines  →  {4 * first} numbers  →  every ResBlock"
    _note(axes, x, y - 0.8, embedding, PURPLE)


def _ends(axes: Axes, config: UNetConfig) -> None:
    """What goes in, what comes out, and the names of the three parts."""
    size, edge = config.image_size, _WIDTH / 2
    arrow(axes, (-edge - 0.85, 0), (-edge, 0), INK)
    arrow(axes, (_RIGHT + edge, 0), (_RIGHT + edge + 0.85, 0), INK)
    _note(axes, -edge - 0.43, 0.13, "3×3", INK)
    _note(axes, _RIGHT + edge + 0.4, 0.13, "3×3", INK)
    _write(axes, -edge - 1.45, 0, ["$x_t$", f"{size} × {size} × {config.in_channels}"])
    _write(
        axes,
        _RIGHT + edge + 1.45,
        0,
        [r"$\epsilon_\theta(x_t, t)$", f"{size} × {size} × {config.out_channels}"],
    )
    for x, y, name, colour in (
        (0.0, 0.65, "encoder", BLUE),
        (_RIGHT, 0.65, "decoder", GREEN),
        (_RIGHT / 2, -_ROW * len(config.channels) + 0.62, "bottleneck", ORANGE),
    ):
        axes.text(x, y, name, color=colour, ha="center", va="center", fontsize=12)


def _write(axes: Axes, x: float, y: float, lines: list[str]) -> None:
    axes.text(x, y, "\n".join(lines), ha="center", va="center", fontsize=9.5)


def _note(axes: Axes, x: float, y: float, text: str, colour: str, side: str = "center") -> None:
    axes.text(x, y, text, color=colour, ha=side, va="center", fontsize=9)


def embedding() -> Figure:
    """The sines and cosines of t = 0 … 999, a row for each of 64 numbers."""
    figure, (panel,) = panels(1, width=7.2, height=3.6)
    y, _ = time_embedding(np.arange(1000.0), dim=64)
    image = panel.imshow(
        y.T, aspect="auto", cmap="RdBu_r", vmin=-1, vmax=1, interpolation="nearest"
    )
    figure.colorbar(image, ax=panel, pad=0.015, ticks=[-1, 0, 1])
    panel.axhline(31.5, color="white", linewidth=1.6)
    panel.text(12, 30.5, "cosines", color="white", va="bottom")
    panel.text(12, 62.5, "sines", color=INK, va="bottom")
    panel.grid(visible=False)
    label(panel, title="the embedding of t: clocks from fast to slow", x="t", y="component")
    return figure
