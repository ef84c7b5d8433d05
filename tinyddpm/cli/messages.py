"""Messages beside the result: on stderr, and never in the way of the work."""

from __future__ import annotations

from contextlib import suppress

import click


def say(text: str) -> None:
    """Write a line to stderr. If nobody reads there any more, what is being done goes on."""
    with suppress(OSError):
        click.echo(text, err=True)
