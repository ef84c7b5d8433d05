"""A concept of the course: said, written down, located, shown, and checked.

A check holds a number that the package computes against the same number found another way: by
numerical integration, by a finite sum, in exact fractions, by Bayes' rule on a grid, or by drawing.
Where it compares many pairs it keeps the worst, the one that uses most of what is allowed.
"""

from __future__ import annotations

import inspect
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

PACKAGE = Path(__file__).resolve().parents[1]
STANDARD_ERRORS = 5.0


@dataclass(frozen=True)
class Check:
    """Two numbers that must agree.

    Attributes:
        what: the quantity.
        ours: what the package computes.
        how: the other derivation.
        independent: what that one gives.
        allowed: the largest |ours − independent| that passes.
        pairs: how many pairs were compared; this is the worst.
        sampled: whether ``allowed`` is five standard errors, and not for rounding.
    """

    what: str
    ours: float
    how: str
    independent: float
    allowed: float
    pairs: int = 1
    sampled: bool = False

    @property
    def error(self) -> float:
        """|ours − independent|."""
        return abs(self.ours - self.independent)

    @property
    def holds(self) -> bool:
        """Whether the two agree; a NaN agrees with nothing."""
        return self.error <= self.allowed


@dataclass(frozen=True)
class Concept:
    """One step of the course.

    Attributes:
        number: its place in the course, from 1.
        name: what it is called on the command line.
        title: in a few words.
        text: plain prose, to be wrapped.
        equation: in Unicode, of one line or more.
        functions: what implements it.
        check: computes the two numbers.
        table: draws up its numbers, if it has a table.
        figure: the name of its figure (see ``figures.catalogue``), if it has one.
    """

    number: int
    name: str
    title: str
    text: str
    equation: str
    functions: tuple[Callable[..., Any], ...]
    check: Callable[[], Check]
    table: Callable[[], str] | None = None
    figure: str | None = None


def exactly(
    what: str,
    ours: npt.ArrayLike,
    how: str,
    independent: npt.ArrayLike,
    *,
    rtol: float = 1e-12,
    atol: float = 0.0,
) -> Check:
    """Compare numbers that may differ by rounding, ``rtol`` of each, and by ``atol``."""
    other = np.atleast_1d(np.asarray(independent, np.float64))
    return _worst(what, ours, how, other, atol + rtol * np.abs(other), sampled=False)


def on_average(
    what: str,
    ours: npt.ArrayLike,
    how: str,
    independent: npt.ArrayLike,
    standard_error: npt.ArrayLike,
) -> Check:
    """Compare numbers of which the first are means of draws: 5 standard errors are allowed."""
    allowed = STANDARD_ERRORS * np.asarray(standard_error, np.float64)
    return _worst(what, ours, how, independent, allowed, sampled=True)


def _worst(
    what: str,
    ours: npt.ArrayLike,
    how: str,
    independent: npt.ArrayLike,
    allowed: npt.ArrayLike,
    *,
    sampled: bool,
) -> Check:
    mine, other, limit = np.broadcast_arrays(
        *(np.ravel(np.asarray(numbers, np.float64)) for numbers in (ours, independent, allowed))
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        used = np.where(mine == other, 0.0, np.abs(mine - other) / limit)
    # NaN sorts last, so that it is the worst.
    worst = int(np.argsort(used, kind="stable")[-1])
    pair = float(mine[worst]), float(other[worst]), float(limit[worst])
    return Check(what, pair[0], how, pair[1], pair[2], pairs=mine.size, sampled=sampled)


def location(function: Callable[..., Any]) -> tuple[str, str]:
    """Return the dotted name of ``function``, and its file and line as ``tinyddpm/….py:12``."""
    path = Path(inspect.getsourcefile(function) or "").resolve()
    line = inspect.getsourcelines(function)[1]
    dotted = f"{function.__module__}.{function.__qualname__}"
    return dotted, f"{path.relative_to(PACKAGE.parent).as_posix()}:{line}"


def table(header: Sequence[str], rows: Sequence[Sequence[str | int | float]]) -> str:
    """Return aligned columns: numbers to four digits and to the right, words to the left."""
    cells = [list(header), *([_cell(value) for value in row] for row in rows)]
    widths = [max(_width(row[i]) for row in cells) for i in range(len(header))]
    words = [isinstance(value, str) for value in rows[0]]
    lines = []
    for row in cells:
        columns = zip(row, widths, words, strict=True)
        padded = [(cell, " " * (width - _width(cell)), left) for cell, width, left in columns]
        lines.append("  ".join(cell + gap if left else gap + cell for cell, gap, left in padded))
    return "\n".join(line.rstrip() for line in lines)


def _cell(value: str | int | float) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _width(text: str) -> int:
    """Columns on a terminal: a combining mark, as in ᾱ and β̃, has none of its own."""
    return sum(not unicodedata.combining(character) for character in text)
