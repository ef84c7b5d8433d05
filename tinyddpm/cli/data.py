"""``tinyddpm data``."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

from tinyddpm.cli.messages import say
from tinyddpm.cli.run_data import tell_download
from tinyddpm.cli.sizes import size
from tinyddpm.data.holdings import KNOWN, KnownSet, Verdict, obtain, verify
from tinyddpm.errors import DataError

EXAMPLES = """\b
Examples:
  tinyddpm data list
  tinyddpm data verify mnist
  tinyddpm data fetch cifar10
"""

DOWNLOADED = [known.name for known in KNOWN.values() if known.parts]
json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON object instead of the lines."
)


@click.group(epilog=EXAMPLES, short_help="List, verify or fetch the data sets known by name.")
def data() -> None:
    """List, verify or fetch the data sets that are known by name.

    Their files are looked for in $TINYDDPM_DATA/NAME, then in the cache: tinyddpm/NAME in
    $XDG_CACHE_HOME or ~/.cache. Your own pictures and arrays are given to train as --data PATH, and
    are not listed.
    """


@data.command("list", epilog=EXAMPLES, short_help="Show which data sets are here, and where.")
@json_option
def list_(as_json: bool) -> None:  # noqa: FBT001
    """List the data sets, which of their files are here, and where these were looked for."""
    if as_json:
        click.echo(json.dumps({"sets": [_entry(known) for known in KNOWN.values()]}, indent=2))
        return
    for known in KNOWN.values():
        height, width, channels = known.shape
        images = f"{known.train:,} + {known.test:,} images"
        click.echo(f"{known.name:14} {height}×{width}×{channels}  {images:24}{known.state()}")
        for line in _details(known):
            click.echo(f"{'':15}{line}")


@data.command("verify", epilog=EXAMPLES, short_help="Check files against their SHA-256.")
@click.argument("name", metavar="[NAME]", type=click.Choice(list(KNOWN)), required=False)
@json_option
def verify_(name: str | None, as_json: bool) -> None:  # noqa: FBT001
    """Check the files of the data set NAME, or of all, against their sizes and SHA-256.

    Their content is compared, unpacked. Exits with 3 if a file is damaged, or if NAME is given and
    none of its files is there.
    """
    chosen = [KNOWN[name]] if name else list(KNOWN.values())
    if name and not KNOWN[name].parts:
        say(f"note: {name} is built in, and has no files")
    damaged, files = 0, []
    for known in chosen:
        for verdict in verify(known):
            damaged += bool(verdict.fault)
            if as_json:
                files.append(_judgement(known, verdict))
            else:
                click.echo(_line(known, verdict))
    if as_json:
        click.echo(json.dumps({"files": files, "damaged": damaged}, indent=2))
    if name and KNOWN[name].state() == "absent":
        raise DataError(
            f"data set {name} is not on this machine",
            cause=f"looked in {_joined(KNOWN[name].folders)}",
            remedy=f"tinyddpm data fetch {name}",
        )
    if damaged:
        say(f"{damaged} damaged: delete them, and tinyddpm data fetch downloads them again")
        sys.exit(DataError.exit_code)


@data.command("fetch", epilog=EXAMPLES, short_help="Download what is missing.")
@click.argument("name", metavar="NAME", type=click.Choice(DOWNLOADED))
def fetch_(name: str) -> None:
    """Make sure that the data set NAME is on this machine, complete and sound; print its files.

    NAME is mnist, fashion-mnist or cifar10.

    If it is not, it is downloaded into the cache: over https, and kept only if it has the right
    SHA-256.
    """
    for path in obtain(KNOWN[name], tell=tell_download):
        click.echo(path)


def _details(known: KnownSet) -> list[str]:
    """Return what there is to say below the set's own line."""
    if not known.parts:
        return []
    found = known.found()
    files = list(dict.fromkeys(found.values()))
    if not files:
        return [
            f"looked in {_joined(known.folders)}",
            f"tinyddpm data fetch {known.name} downloads it",
        ]
    held = size(sum(path.stat().st_size for path in files))
    lines = [f"{held} in {_joined(list(dict.fromkeys(path.parent for path in files)))}"]
    missing = [part.name for part in known.parts if part.name not in found]
    return [*lines, f"without {', '.join(missing)}"] if missing else lines


def _entry(known: KnownSet) -> dict[str, Any]:
    found = known.found() if known.parts else {}
    return {
        "name": known.name,
        "shape": known.shape,
        "train": known.train,
        "test": known.test,
        "state": known.state(),
        "looked_in": [str(folder) for folder in known.folders],
        "files": [
            {"part": part.name, "path": _text(path), "bytes": path.stat().st_size if path else None}
            for part in known.parts
            for path in [found.get(part.name)]
        ],
    }


def _judgement(known: KnownSet, verdict: Verdict) -> dict[str, Any]:
    return {
        "set": known.name,
        "part": verdict.part.name,
        "path": _text(verdict.path),
        "state": _state(verdict),
        "fault": verdict.fault or None,
    }


def _line(known: KnownSet, verdict: Verdict) -> str:
    line = f"{known.name:14} {verdict.part.name:24} {_state(verdict):8} {verdict.path or ''}"
    return f"{line}: {verdict.fault}" if verdict.fault else line.rstrip()


def _state(verdict: Verdict) -> str:
    if verdict.path is None:
        return "missing"
    return "damaged" if verdict.fault else "right"


def _joined(folders: list[Path]) -> str:
    return ", ".join(map(str, folders))


def _text(path: Path | None) -> str | None:
    return str(path) if path else None
