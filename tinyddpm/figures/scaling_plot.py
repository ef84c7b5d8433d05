"""The time of an image against the batch, the channels and the image's size, axes logarithmic."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from tinyddpm.figures.style import BLUE, GREY, ORANGE, label, panels

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Series(NamedTuple):
    """One quantity that was varied.

    Attributes:
        name: of it.
        values: that it took.
        measured: milliseconds an image.
        overhead: of which calls, not arithmetic.
        at_peak: what the products alone would take at the speed of large matrices.
    """

    name: str
    values: Sequence[float]
    measured: Sequence[float]
    overhead: Sequence[float]
    at_peak: Sequence[float]


def scaling_figure(series: Sequence[Series], *, title: str) -> Figure:
    """Return a panel for each of ``series``."""
    figure, axes = panels(len(series), width=3.6, height=3.6)
    for panel, one in zip(axes, series, strict=True):
        panel.plot(one.values, one.measured, color=BLUE, marker="o", markersize=4, label="measured")
        panel.plot(one.values, one.at_peak, color=ORANGE, label="products at peak speed")
        panel.plot(one.values, one.overhead, color=GREY, linestyle="--", label="calls alone")
        panel.set_xscale("log", base=2)
        panel.set_yscale("log")
        panel.set_xticks(one.values, [f"{value:g}" for value in one.values])
        panel.minorticks_off()
        label(panel, x=one.name, y="ms an image" if panel is axes[0] else "")
    axes[0].legend(fontsize=8)
    figure.suptitle(title, x=0.02, ha="left", fontsize=11)
    return figure
