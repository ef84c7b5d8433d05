"""The bound term by term: L_{t−1} against t, both axes logarithmic."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from tinyddpm.arrays import Array
from tinyddpm.figures.style import BLUE, GREEN, ORANGE, RED, label, panels

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_COLOURS = (ORANGE, BLUE, RED, GREEN)


class Terms(NamedTuple):
    """One model's terms."""

    label: str
    t: Array  # (K,)
    bits_per_dim: Array  # (K,) L_{t−1}
    standard_error: Array  # (K,) NaN where it is not known


def terms_figure(terms: Sequence[Terms], *, title: str) -> Figure:
    """Return a figure of the ``terms`` of up to four models; what is 0 has no place on it."""
    figure, (axes,) = panels(width=7.0, height=4.5)
    for model, colour in zip(terms, _COLOURS, strict=False):
        positive = model.bits_per_dim > 0
        t, bits, error = (column[positive] for column in model[1:])
        axes.errorbar(
            t, bits, error, fmt=".", color=colour, markersize=3, elinewidth=0.6, label=model.label
        )
    axes.set_xscale("log")
    axes.set_yscale("log")
    label(axes, title=title, x="$t$", y="$L_{t-1}$, bits/dim")
    axes.legend()
    return figure
