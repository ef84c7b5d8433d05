"""Where the value of an option comes from.

    flag > environment > --config FILE > the preset, or the run that is resumed > default

The variable of an option is named after verb and flag: TINYDDPM_TRAIN_BATCH is that of
``train --batch``. (TINYDDPM_DATA, the folder of data sets, is no option's.) In a file, a key is a
flag without its dashes.
"""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from tinyddpm.cli.options import AnyPath
from tinyddpm.errors import UsageError

# Flags that say what to do, and so are nothing to be kept in a file.
ACTIONS = {"config", "print-config", "dry-run", "json"}
_FILE = "tinyddpm.config_file"  # key of a context's meta


def name_variables(verbs: click.Group, prefix: str = "TINYDDPM") -> None:
    """Let each option of each verb be set by a variable of the environment."""
    for name, verb in verbs.commands.items():
        for option in _options(verb):
            option.envvar = f"{prefix}_{name}_{flag(option)}".upper().replace("-", "_")
        if isinstance(verb, click.Group):
            name_variables(verb, f"{prefix}_{name}")


def unknown_variables(name: str, verb: click.Command) -> Iterator[tuple[str, str]]:
    """Yield each variable that looks like an option of ``verb`` and is none, and the nearest."""
    known = set(_variables(verb))
    for variable in sorted(os.environ):
        if variable.startswith(f"TINYDDPM_{name.upper()}_") and variable not in known:
            yield variable, nearest(variable, known)


def settings_of(verb: click.Command) -> dict[str, click.Option]:
    """Return the options that a file may set, by their keys, in the order of the help."""
    return {flag(option): option for option in _options(verb) if flag(option) not in ACTIONS}


def flag(option: click.Option) -> str:
    """Return the long name of ``option`` without its dashes."""
    return next(name for name in option.opts if name.startswith("--")).removeprefix("--")


def origin(ctx: click.Context, option: click.Option) -> str | None:
    """Return who set ``option``: flag, environment or file; None if nobody did."""
    source = ctx.get_parameter_source(option.name or "")
    if source is ParameterSource.COMMANDLINE:
        return f"flag --{flag(option)}"
    if source is ParameterSource.ENVIRONMENT:
        return f"environment {option.envvar}"
    if source is ParameterSource.DEFAULT_MAP:
        return f"file {ctx.meta[_FILE]}"
    return None


def origin_of_mistake(error: click.ClickException) -> str | None:
    """Return who set the value that ``error`` is about, unless it is plain to see."""
    if not isinstance(error, click.BadParameter) or error.ctx is None:
        return None
    if not isinstance(error.param, click.Option):
        return None
    where = origin(error.ctx, error.param)
    return where if where and not where.startswith("flag") else None


def nearest(name: str, known: Iterable[str]) -> str:
    """Return the one of ``known`` that ``name`` was probably meant to be; all, if none is near."""
    known = sorted(known)
    return next(iter(difflib.get_close_matches(name, known, n=1)), ", ".join(known))


def _use_file(ctx: click.Context, _option: click.Parameter, path: Path | None) -> None:
    """Let the values in ``path`` stand for the defaults of the options."""
    if path is None or ctx.resilient_parsing:
        return
    options = settings_of(ctx.command)
    ctx.meta[_FILE], ctx.default_map = path, {}
    for key, value in _read(path).items():
        if key not in options:
            raise UsageError(f"{path}: unknown key {key!r}", remedy=nearest(key, options))
        _check(ctx, options[key], value, f"{path}: {key}")
        ctx.default_map[str(options[key].name)] = value


config_option = click.option(
    "--config",
    type=AnyPath(),
    is_eager=True,  # before the options that it sets
    expose_value=False,
    callback=_use_file,
    metavar="FILE",
    help="Read options from a TOML file, such as --print-config writes. Flags override variables "
    "($TINYDDPM_TRAIN_BATCH for --batch), these override FILE, and FILE overrides the preset.",
)


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise UsageError(f"{path} cannot be read", cause=str(error.strerror)) from error
    except (ValueError, RecursionError) as error:  # of TOML, or of UTF-8
        raise UsageError(f"{path} is not a TOML file", cause=str(error)) from error


def _check(ctx: click.Context, option: click.Option, value: Any, where: str) -> None:
    """Refuse a value that is not of the option's type; click would take ``"64"`` for a number."""
    kinds, expected = _kinds(option)
    if type(value) not in kinds:
        raise UsageError(f"{where} must be {expected}", cause=f"it is {value!r}")
    try:
        option.type.convert(value, option, ctx)
    except click.BadParameter as error:
        raise UsageError(f"{where} cannot be {value!r}", cause=error.message) from error


def _kinds(option: click.Option) -> tuple[tuple[type, ...], str]:
    """The types that TOML's value for ``option`` may have, and what they are called."""
    if isinstance(option.type, click.types.BoolParamType):
        return (bool,), "true or false"
    if isinstance(option.type, click.types.IntParamType):
        return (int,), "an integer"
    if isinstance(option.type, click.types.FloatParamType):
        return (int, float), "a number"
    return (str,), "a string"


def _options(verb: click.Command) -> list[click.Option]:
    return [param for param in verb.params if isinstance(param, click.Option)]


def _variables(verb: click.Command) -> Iterator[str]:
    yield from (str(option.envvar) for option in _options(verb))
    if isinstance(verb, click.Group):
        for inner in verb.commands.values():
            yield from _variables(inner)
