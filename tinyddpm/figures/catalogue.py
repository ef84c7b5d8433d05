"""All figures by name, and how one becomes a file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from tinyddpm.errors import UsageError
from tinyddpm.figures import beyond_plots, bound_plots, forward_plots, network_plots, strips
from tinyddpm.figures.grid import save_png
from tinyddpm.figures.style import draw_and_save

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PICTURES: dict[str, Callable[[], Image.Image]] = {
    "data": strips.data,
    "noised-strips": strips.noised_strips,
    "reverse-trajectory": strips.reverse_trajectory,
}
PLOTS: dict[str, Callable[[], Figure]] = {
    "inverse-cdf": forward_plots.inverse_cdf_plot,
    "forward-densities": forward_plots.forward_densities,
    "schedules": forward_plots.schedules,
    "jensen": bound_plots.jensen,
    "bound-terms": bound_plots.bound_terms,
    "decoder": bound_plots.decoder,
    "posterior": bound_plots.posterior,
    "weights": bound_plots.weights,
    "rectangle": bound_plots.rectangle,
    "unet": network_plots.unet,
    "time-embedding": network_plots.embedding,
    "variances": bound_plots.variances,
    "time-probabilities": beyond_plots.time_probabilities,
    "ddim-paths": beyond_plots.ddim_paths,
    "snr": forward_plots.log_snr,
    "guidance": beyond_plots.guidance,
}


def write_figure(name: str, path: Path) -> None:
    """Draw figure ``name`` into ``path``: PNG, or SVG for the plots.

    Raises:
        UsageError: another ending, or Matplotlib is needed and not installed.
        StorageError: the file cannot be written.
    """
    kinds = {".png"} if name in PICTURES else {".png", ".svg"}
    if path.suffix.lower() not in kinds:
        raise UsageError(
            f"figure {name} is written as {' or '.join(sorted(kinds))}",
            cause=f"got {path.name}",
        )
    if name in PICTURES:
        save_png(PICTURES[name](), path)
    else:
        draw_and_save(PLOTS[name], path)
