"""Lines of text in columns."""

from __future__ import annotations

from collections.abc import Iterator


def aligned(rows: list[tuple[str, ...]]) -> Iterator[str]:
    """Yield a line for each of ``rows``, in columns as wide as the widest of their cells."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()


def labelled(label: str, *columns: str, label_width: int, width: int) -> str:
    """Return ``label`` to the left and ``columns`` to the right, each of that many characters."""
    return "".join([f"{label:<{label_width}}", *(f" {c:>{width}}" for c in columns)]).rstrip()
