"""Options that several verbs share."""

from __future__ import annotations

import math
import os
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar, get_args

import click
from click.core import ParameterSource

from tinyddpm.errors import UsageError
from tinyddpm.kernels.cuda.runtime import Precision

RUNS = Path("runs")  # where runs are written, and looked for
MOST = 2**31 - 1  # images; random numbers, files and other programs count no further

device_option = click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda"]),
    default="auto",
    help="Where to compute; auto takes a GPU if there is one that CuPy can use.",
)
precision_option = click.option(
    "--precision",
    type=click.Choice(get_args(Precision)),
    default="tf32",
    help="Precision of the products on a GPU; sums, and all that a CPU computes, are in float32.",
)
threads_option = click.option(
    "--threads",
    type=click.IntRange(min=0),
    metavar="N",
    default=0,
    help="Workers on a CPU, threads or processes; 0: one per core. The result does not depend on "
    "their number.",
)
weights_option = click.option(
    "--weights",
    type=click.Choice(["ema", "raw"]),
    default="ema",
    help="Which weights to use: their moving average, or the last ones as they are.",
)
seed_type = click.IntRange(0, 2**32 - 1)

Request = TypeVar("Request")  # a dataclass whose fields are parameters of a command


class Count(click.IntRange):
    """A whole number from ``min`` on; of ``MOST`` a help need not speak, only who asks for more."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the number, which is no more than ``MOST``."""
        count: int = super().convert(value, param, ctx)
        if count > MOST:
            self.fail(f"{count} is more than {MOST}.", param, ctx)
        return count


class AnyPath(click.Path):
    """A path, there or not; an empty one is an unset variable, and does not mean this folder."""

    def __init__(self, *, file_okay: bool = True, dir_okay: bool = True) -> None:
        super().__init__(file_okay=file_okay, dir_okay=dir_okay, path_type=Path)

    def convert(
        self,
        value: str | os.PathLike[str],
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> Path:
        """Return the path."""
        if not os.fspath(value):
            self.fail("the path is empty.", param, ctx)
        return Path(os.fsdecode(super().convert(value, param, ctx)))


class RunPath(AnyPath):
    """A run or a checkpoint file: its path, or the name of a run in ``RUNS``."""

    def convert(
        self,
        value: str | os.PathLike[str],
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> Path:
        """Return the path, below ``RUNS`` if it leads to something only there."""
        path = super().convert(value, param, ctx)
        return RUNS / path if not path.exists() and (RUNS / path).exists() else path


def finite(_ctx: click.Context, _param: click.Parameter, value: float | None) -> float | None:
    """Return the ``value`` of an option, if it is a number or none: NaN lies in every range.

    Raises:
        click.BadParameter: it is NaN or infinite.
    """
    if value is not None and not math.isfinite(value):
        raise click.BadParameter(f"{value} is not a finite number.")
    return value


def check_steps(steps: int | None, T: int) -> int:
    """Return ``steps``, all T unless given.

    Raises:
        UsageError: it is not a number of steps of this chain.
    """
    if steps is not None and not 1 <= steps <= T:
        raise UsageError(f"--steps must be from 1 to {T}: got {steps}")
    return T if steps is None else steps


def refuse_others(context: click.Context, measurement: str, known: set[str]) -> None:
    """Refuse options on the command line that say nothing to ``measurement``.

    Raises:
        UsageError: one was given whose parameter is not ``known``.
    """
    for name, option in option_names(context).items():
        given = context.get_parameter_source(name) is ParameterSource.COMMANDLINE
        if given and name not in known:
            raise UsageError(f"{option} means nothing to {measurement}")


def parameters_of(kind: type[Any]) -> set[str]:
    """Return the parameters of a command that a request of this ``kind`` holds."""
    return {field.name for field in fields(kind)}


def request_of(kind: type[Request], given: dict[str, Any]) -> Request:
    """Return the request of this ``kind``, its fields taken from all that was ``given``."""
    return kind(**{name: given[name] for name in parameters_of(kind)})


def option_names(context: click.Context) -> dict[str, str]:
    """Return every parameter's name and what a user calls it."""
    return {
        str(p.name): p.opts[0] if isinstance(p, click.Option) else p.human_readable_name
        for p in context.command.params
    }
