"""One look for all plots, and files that are the same bytes on every run.

Matplotlib is an optional extra. It is imported here alone, when a plot is drawn, and through its
object-oriented interface: no window, no global figure.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tinyddpm.errors import UsageError
from tinyddpm.files import write_atomically
from tinyddpm.output_folder import check_folder_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, ORANGE, GREEN, RED, PURPLE = "#2c6fbb", "#e07b1a", "#2a9d5c", "#c8403f", "#7d5bb3"
INK, GREY, PALE = "#22262b", "#8a9099", "#dde1e6"

_FORMATS = (".png", ".svg")

_STYLE: dict[Any, Any] = {
    "figure.facecolor": "white",
    "figure.dpi": 150,
    "savefig.dpi": 150,
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "mathtext.fontset": "dejavusans",
    "text.color": INK,
    "axes.edgecolor": GREY,
    "axes.labelcolor": INK,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.titlepad": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": PALE,
    "grid.linewidth": 0.7,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "lines.linewidth": 2.0,
    "legend.frameon": False,
    "svg.hashsalt": "tinyddpm",
}


def panels(columns: int = 1, *, width: float = 4.6, height: float = 3.5) -> tuple[Figure, Any]:
    """Return a figure and its row of axes, each ``width`` × ``height`` inches.

    Raises:
        UsageError: Matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415
        from matplotlib.figure import Figure  # noqa: PLC0415
    except ImportError as error:
        raise UsageError(
            "this figure is drawn by Matplotlib, which is not installed",
            cause=str(error),
            remedy='pip install "tinyddpm[plot]", or pip install ".[plot]" in its folder',
        ) from error
    figure = Figure(figsize=(columns * width, height), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, columns, squeeze=False)[0]
    return figure, axes


def label(axes: Axes, *, title: str = "", x: str = "", y: str = "") -> None:
    """Write a panel's title and the names of its axes."""
    axes.set_title(title)
    axes.set_xlabel(x)
    axes.set_ylabel(y)


def box(axes: Axes, centre: tuple[float, float], size: tuple[float, float], colour: str) -> None:
    """Draw a rounded box, lightly filled."""
    from matplotlib.patches import FancyBboxPatch  # noqa: PLC0415

    (x, y), (width, height) = centre, size
    corner = x - width / 2, y - height / 2
    shape = "round,pad=0,rounding_size=0.12"
    patch = FancyBboxPatch(corner, width, height, boxstyle=shape, linewidth=1.4)
    patch.set(facecolor=colour + "1f", edgecolor=colour)
    axes.add_patch(patch)


def arrow(
    axes: Axes,
    start: tuple[float, float],
    end: tuple[float, float],
    colour: str,
    line: str = "-",
) -> None:
    """Draw an arrow from ``start`` to ``end``."""
    look = {"arrowstyle": "-|>", "color": colour, "linewidth": 1.3, "linestyle": line}
    axes.annotate("", end, xytext=start, arrowprops={**look, "shrinkA": 0, "shrinkB": 0})


def check_can_draw(path: Path) -> None:
    """Raise unless a figure can be made as ``path``: to be asked before a long computation.

    Raises:
        UsageError: Matplotlib is not installed, the name does not end in .png or .svg, or its
            folder is not there.
        StorageError: the folder cannot be written to.
    """
    if path.suffix.lower() not in _FORMATS:
        raise UsageError(f"a figure is written as {' or '.join(_FORMATS)}", cause=f"got {path}")
    check_folder_of(path)
    panels()


def draw_and_save(plot: Callable[[], Figure], path: Path) -> None:
    """Draw ``plot`` in the house style and write it to ``path``, PNG or SVG by its ending.

    Raises:
        UsageError: Matplotlib is not installed.
        StorageError: the file cannot be written.
    """
    try:
        import matplotlib as mpl  # noqa: PLC0415
    except ImportError:
        panels()  # raises, saying so
        raise
    kind = path.suffix[1:].lower()
    undated = {"Date": None} if kind == "svg" else {"Software": None}
    with mpl.rc_context(_STYLE), np.errstate(all="ignore"):
        figure = plot()
        write_atomically(path, lambda file: figure.savefig(file, format=kind, metadata=undated))
