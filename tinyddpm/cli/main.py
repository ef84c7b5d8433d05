"""The group of all verbs, and what becomes of their errors."""

from __future__ import annotations

import os
import sys
from io import TextIOWrapper

import click

import tinyddpm
from tinyddpm.arrays import gpu_failure
from tinyddpm.cli.bench import bench
from tinyddpm.cli.completion import PROGRAM, completion
from tinyddpm.cli.data import data
from tinyddpm.cli.doctor import doctor
from tinyddpm.cli.evaluate import evaluate
from tinyddpm.cli.explain import explain
from tinyddpm.cli.gradcheck import gradcheck
from tinyddpm.cli.messages import say
from tinyddpm.cli.runs import runs
from tinyddpm.cli.sample import sample
from tinyddpm.cli.settings import name_variables, origin_of_mistake, unknown_variables
from tinyddpm.cli.signals import Stopped, stoppable
from tinyddpm.cli.train import train
from tinyddpm.cli.verify import verify
from tinyddpm.errors import StorageError, TinyDDPMError, UsageError

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
@click.pass_context
def commands(ctx: click.Context) -> None:
    """Denoising diffusion in NumPy and CuPy, every gradient by hand.

    An option can also be set by an environment variable: $TINYDDPM_TRAIN_BATCH is train --batch.
    """
    name = ctx.invoked_subcommand or ""
    if name in commands.commands:
        for variable, nearest in unknown_variables(name, commands.commands[name]):
            say(f"note: ${variable} is not an option of {name}; was {nearest} meant?")


for verb in (
    train,
    sample,
    evaluate,
    explain,
    gradcheck,
    verify,
    bench,
    data,
    runs,
    doctor,
    completion,
):
    commands.add_command(verb)
name_variables(commands)


def main() -> None:
    """Run the command line; a user's mistake gives one message and no traceback."""
    _forgive_poor_encodings()
    try:
        with stoppable():
            code = _run()
    except Stopped as stopped:
        say("stopped")
        code = stopped.exit_code
    sys.exit(code)


def _run() -> int | None:
    """Do what was asked for, tell its errors, and return the exit code."""
    try:
        code: int | None = commands.main(prog_name=PROGRAM, standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        say(error.format_message())
        code = error.exit_code
    except click.ClickException as error:
        _tell(error)
        code = error.exit_code
    except TinyDDPMError as error:
        say(f"error: {error}")
        code = error.exit_code
    except (click.Abort, KeyboardInterrupt) as error:
        if isinstance(error.__cause__, EOFError):  # Click takes it for the end of what is typed in
            raise error.__cause__ from None
        say("stopped")
        code = 130
    except (OSError, MemoryError, RuntimeError) as error:
        failure = _failure(error)
        if failure is None:
            raise
        say(f"error: {failure}")
        code = failure.exit_code
    return code


def _failure(error: OSError | MemoryError | RuntimeError) -> TinyDDPMError | None:
    """Return what to tell of an ``error`` of the machine's, or None if it is a bug."""
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        return StorageError(f"{where}{error.strerror or error}")
    if isinstance(error, MemoryError):
        return UsageError("out of memory", cause=str(error), remedy="a smaller --batch or --n")
    return None if os.environ.get("CUDA_LAUNCH_BLOCKING") == "1" else gpu_failure(error)


def _tell(error: click.ClickException) -> None:
    """Tell what Click found wrong as this package tells its own errors."""
    message = error.format_message().removesuffix(".").removesuffix(" range")  # a "float range"
    say(f"error: {message[:1].lower()}{message[1:]}")
    if where := origin_of_mistake(error):
        say(f"cause: it is set by {where}")
    if isinstance(error, click.UsageError) and error.ctx:
        say(f"try: {error.ctx.command_path} --help")


def _forgive_poor_encodings() -> None:
    """Where a terminal knows no β there is none, but no traceback either."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")
