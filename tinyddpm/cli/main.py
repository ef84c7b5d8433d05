"""The group of all verbs, and what becomes of their errors."""

from __future__ import annotations

import sys
from io import TextIOWrapper

import click

import tinyddpm
from tinyddpm.cli.evaluate import evaluate
from tinyddpm.cli.explain import explain
from tinyddpm.cli.gradcheck import gradcheck
from tinyddpm.cli.sample import sample
from tinyddpm.cli.train import train
from tinyddpm.cli.verify import verify
from tinyddpm.errors import StorageError, TinyDDPMError

EXAMPLES = """\b
Example:
  tinyddpm train --data glyphs
  tinyddpm sample --steps 1000
"""


@click.group(
    epilog=EXAMPLES,
    context_settings={"help_option_names": ["-h", "--help"], "show_default": True},
)
@click.version_option(tinyddpm.__version__, prog_name="tinyddpm")
def commands() -> None:
    """Denoising diffusion in NumPy and CuPy, every gradient by hand."""


for verb in (train, sample, evaluate, explain, gradcheck, verify):
    commands.add_command(verb)


def main() -> None:
    """Run the command line; a user's mistake gives one message and no traceback."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # no β where a terminal knows none, but no traceback
            stream.reconfigure(errors="replace")
    try:
        code = commands.main(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except TinyDDPMError as error:
        click.echo(f"error: {error}", err=True)
        code = error.exit_code
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        click.echo(f"error: {where}{error.strerror or error}", err=True)
        code = StorageError.exit_code
    except MemoryError as error:
        click.echo(f"error: out of memory ({error})\ntry: a smaller --batch or --n", err=True)
        code = 2
    except (click.Abort, KeyboardInterrupt):
        click.echo("stopped", err=True)
        code = 130
    sys.exit(code)
