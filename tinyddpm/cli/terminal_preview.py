"""Previews in the terminal, for ``tinyddpm train --preview-terminal``."""

from __future__ import annotations

import math
import os
import shutil
import sys
import time
from typing import final

import numpy as np

from tinyddpm.cli.messages import say
from tinyddpm.data.dataset import ByteArray
from tinyddpm.errors import UsageError
from tinyddpm.figures.grid import grid
from tinyddpm.figures.terminal import UPPER_HALF, half_blocks

SECONDS_BETWEEN = 1.0


def show_previews(preview_every: int) -> TerminalPreview | None:
    """Return what shows previews on stderr; or say why it cannot, and return None.

    Raises:
        UsageError: ``preview_every`` is 0: there is nothing to show.
    """
    if not preview_every:
        raise UsageError("--preview-terminal has no previews to show with --preview-every 0")
    reason = _obstacle()
    if reason:
        say(f"note: no previews here: {reason}; they are in the run's folder samples/")
    return None if reason else TerminalPreview()


def _obstacle() -> str:
    """Return why stderr can show no pictures, or an empty string if it can."""
    if not (sys.stderr and sys.stderr.isatty()):
        return "stderr is no terminal"
    if os.environ.get("NO_COLOR"):
        return "NO_COLOR is set"
    if os.environ.get("TERM", "dumb") == "dumb":
        return "the terminal knows no colours (TERM)"
    try:
        UPPER_HALF.encode(sys.stderr.encoding)
    except UnicodeEncodeError:
        return f"the terminal's encoding, {sys.stderr.encoding}, has no {UPPER_HALF!a}"
    return ""


@final
class TerminalPreview:
    """Shows images below the progress bar, which stays there and goes on below them.

    The bar that stays is their caption, with the step and the loss.
    """

    def __init__(self) -> None:
        self._last = -math.inf
        self._true_colour = os.environ.get("COLORTERM", "") in {"truecolor", "24bit"}

    def __call__(self, images: ByteArray) -> None:
        """Show as many of ``images`` (N, H, W, C) as fit side by side; one a second at most."""
        now = time.monotonic()
        if now - self._last < SECONDS_BETWEEN:
            return
        self._last = now
        picture = fitting_row(images, *shutil.get_terminal_size())
        say("\n" + "\n".join(half_blocks(picture, true_colour=self._true_colour)))


def fitting_row(images: ByteArray, columns: int, lines: int) -> ByteArray:
    """Return as many of ``images`` side by side as a terminal holds, (H, W) or (H, W, 3).

    An image too large for it is reduced, and two lines are left for the bars.
    """
    height, width = images.shape[1:3]
    factor = max(1, -(-width // columns), -(-height // max(2 * (lines - 2), 1)))
    count = max(1, min(len(images), (factor * columns + 1) // (width + 1)))
    return np.asarray(grid(images[:count], columns=count).reduce(factor))
