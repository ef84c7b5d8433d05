"""What ``train --print-config`` prints: each value and where it comes from, as TOML or JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

import click

from tinyddpm.cli.settings import origin, settings_of
from tinyddpm.training.config import RunConfig, flat, recipe

# Of the options that make the configuration, those that no preset says anything about.
_NOT_THE_PRESETS = {
    *("data", "data_dir", "skip_bad", "preset", "seed"),
    *("conditional", "objective", "vlb_weight"),
}


class Setting(NamedTuple):
    """One value and where it comes from.

    Attributes:
        value: of the run.
        origin: who decided it.
        option: there is an option for it.
        kept: a file that is to make such a run, here or elsewhere, says it.
    """

    value: Any
    origin: str
    option: bool
    kept: bool = True


def resolved(ctx: click.Context, config: RunConfig) -> dict[str, Setting]:
    """Return all that a run of ``config`` is made of, by key: the options, then the rest."""
    plain, seen = config.to_json(), {"class_names"}
    plain |= {"conditional": bool(config.class_names), **plain["diffusion"]}
    found = {}
    for key, option in settings_of(ctx.command).items():
        name = str(option.name)
        seen |= {name, f"diffusion.{name}"}
        value = plain.get(name, ctx.params[name])
        given = origin(ctx, option)
        who = given or _unset(ctx, config, name, of_the_run=name in plain)
        kept = bool(given) or name != "data_dir"  # found here, it may be elsewhere on another day
        found[key] = Setting(value, who, option=True, kept=kept)
    preset = dict(flat(recipe(config.preset, config.data).to_json()))
    for key, value in flat(config.to_json()):
        if key not in seen:
            fitted = "fitted to data and options" if value != preset[key] else None
            found[key] = Setting(value, fitted or f"preset {config.preset}", option=False)
    return found


def _unset(ctx: click.Context, config: RunConfig, name: str, *, of_the_run: bool) -> str:
    """Who decides an option that was not given."""
    if of_the_run and ctx.params["resume"]:
        return f"run {ctx.params['resume']}"
    if name == "data_dir" and config.data_dir:
        return "where it was found"
    return f"preset {config.preset}" if of_the_run and name not in _NOT_THE_PRESETS else "default"


def show(settings: dict[str, Setting], *, as_json: bool) -> None:
    """Print ``settings`` as a TOML file or, with ``value`` and ``origin`` of each, as JSON."""
    if as_json:
        entries = {key: {"value": s.value, "origin": s.origin} for key, s in settings.items()}
        click.echo(json.dumps(entries, indent=2, default=str))
    else:
        click.echo("\n".join(_as_toml(settings)))


def _as_toml(settings: dict[str, Setting]) -> Iterator[str]:
    """Yield the lines of a file for --config; what it cannot or should not say is in comments."""
    yield "# tinyddpm train --config FILE"
    for key, setting in settings.items():
        if setting.option:
            unset = setting.value in {None, ""}
            line = f"{key} is not set" if unset else f"{key} = {_toml(setting.value)}"
            comment = "# " if unset or not setting.kept else ""
            yield f"{comment + line:40}  # {setting.origin}"
    yield "\n# Without an option:"
    for key, setting in settings.items():
        if not setting.option:
            yield f"# {key + ' = ' + _toml(setting.value):38}  # {setting.origin}"


def _toml(value: Any) -> str:
    """TOML writes numbers, strings and lists as JSON does."""
    return json.dumps(value, ensure_ascii=False, default=str)
