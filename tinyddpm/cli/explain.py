"""``tinyddpm explain``."""

from __future__ import annotations

import inspect
import json
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from tinyddpm.cli.options import AnyPath, refuse_others
from tinyddpm.concepts.catalogue import CONCEPTS, LECTURE, find
from tinyddpm.concepts.concept import Check, Concept, location
from tinyddpm.errors import StorageError, UsageError
from tinyddpm.figures.catalogue import write_figure
from tinyddpm.output_folder import check_folder_of

EXAMPLES = """\b
Examples:
  tinyddpm explain
  tinyddpm explain cosine
  tinyddpm explain 20 --figure posterior.png
  tinyddpm explain --check
"""
WIDTH = 88


@click.command(epilog=EXAMPLES, short_help="Explain the concepts of diffusion.")
@click.argument("concept", required=False)
@click.option(
    "--check", is_flag=True, help="Run the check of every concept; exit with 1 if any fails."
)
@click.option(
    "--figure",
    type=AnyPath(dir_okay=False),
    metavar="FILE",
    help="Draw the concept's figure: .png, or .svg for a plot.",
)
@click.option(
    "--all-figures",
    type=AnyPath(file_okay=False),
    metavar="DIR",
    help="Draw every figure there is, as PNG.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")
def explain(
    concept: str | None,
    check: bool,  # noqa: FBT001
    figure: Path | None,
    all_figures: Path | None,
    as_json: bool,  # noqa: FBT001
) -> None:
    """Explain a CONCEPT of diffusion, given by its number, its name or the beginning of its name.

    Without one, list them all. Each has its equation, the function that computes it, a figure or a
    table, and a check, which compares a number of this package with the same number found in
    another way.
    """
    context = click.get_current_context()
    if all_figures:
        refuse_others(context, "--all-figures", {"all_figures"})
        _draw_all(all_figures)
    elif concept is None:
        if figure:
            raise UsageError("--figure needs a concept", remedy="--all-figures DIR draws them all")
        _list(as_json=as_json, check=check)
    else:
        alone = "one CONCEPT, whose check is always run"
        refuse_others(context, alone, {"concept", "figure", "as_json"})
        _explain(find(concept), figure, as_json=as_json)


def _list(*, as_json: bool, check: bool) -> None:
    """All concepts, a line each; with their checks, if asked."""
    failed, found = 0, []
    for concept in CONCEPTS:
        outcome = concept.check() if check else None
        failed += outcome is not None and not outcome.holds
        if as_json:
            found.append(_as_json(concept, outcome))
        else:
            click.echo(_line(concept, outcome))
    if as_json:
        click.echo(json.dumps(found, ensure_ascii=False, indent=2))
    elif not check:
        click.echo("\na concept with its equation, code and check: tinyddpm explain NAME")
    else:
        click.echo(f"{failed} of {len(CONCEPTS)} failed" if failed else f"all {len(CONCEPTS)} hold")
    if failed:
        sys.exit(1)


def _line(concept: Concept, outcome: Check | None) -> str:
    heading = "\nbeyond the course\n" if concept.number == len(LECTURE) + 1 else ""
    verdict = "" if outcome is None else "ok      " if outcome.holds else "FAILED  "
    return f"{heading}{concept.number:2}  {concept.name:20}{verdict}{concept.title}"


def _explain(concept: Concept, figure: Path | None, *, as_json: bool) -> None:
    """One concept; its figure first, so that a mistake there is the only message."""
    if figure:
        _draw(concept, figure)
    outcome = concept.check()
    if as_json:
        click.echo(json.dumps(_as_json(concept, outcome), ensure_ascii=False, indent=2))
    else:
        click.echo("\n".join(_page(concept, outcome, figure)))
    if not outcome.holds:
        sys.exit(1)


def _page(concept: Concept, outcome: Check, figure: Path | None) -> Iterator[str]:
    """The lines of a concept."""
    yield f"{concept.number}  {concept.title}\n"
    yield textwrap.indent(inspect.cleandoc(concept.equation), "    ") + "\n"
    yield textwrap.fill(" ".join(concept.text.split()), WIDTH) + "\n"
    for function in concept.functions:
        yield "code    {}\n        {}".format(*location(function))
    if figure:
        yield f"figure  {figure}"
    elif concept.figure:
        yield f"figure  tinyddpm explain {concept.name} --figure {concept.figure}.png"
    yield ""
    if concept.table:
        yield textwrap.indent(concept.table(), "    ") + "\n"
    yield from _verdict(outcome)


def _verdict(outcome: Check) -> Iterator[str]:
    worst = f" (the worst of {outcome.pairs})" if outcome.pairs > 1 else ""
    allowed = "five standard errors" if outcome.sampled else "allowed"
    indent = " " * 8
    yield textwrap.fill(f"check   {outcome.what}{worst}", WIDTH, subsequent_indent=indent)
    yield f"        here       {outcome.ours:.12g}"
    yield f"        otherwise  {outcome.independent:.12g}"
    yield textwrap.fill(outcome.how, WIDTH, initial_indent=" " * 19, subsequent_indent=" " * 19)
    yield (
        f"        apart by   {outcome.error:.1e}, {allowed} {outcome.allowed:.1e}:"
        f" {'ok' if outcome.holds else 'FAILED'}"
    )


def _as_json(concept: Concept, outcome: Check | None) -> dict[str, Any]:
    """What a program may want to know."""
    entry: dict[str, Any] = {
        "number": concept.number,
        "name": concept.name,
        "title": concept.title,
        "equation": inspect.cleandoc(concept.equation),
        "functions": [
            dict(zip(("name", "at"), location(f), strict=True)) for f in concept.functions
        ],
        "figure": concept.figure,
    }
    if outcome is not None:
        entry["check"] = {
            "what": outcome.what,
            "ours": outcome.ours,
            "how": outcome.how,
            "independent": outcome.independent,
            "error": outcome.error,
            "allowed": outcome.allowed,
            "holds": outcome.holds,
        }
    return entry


def _draw(concept: Concept, path: Path) -> None:
    if concept.figure is None:
        raise UsageError(
            f"concept {concept.name} has a table and no figure",
            remedy=f"tinyddpm explain {concept.name}",
        )
    check_folder_of(path)
    write_figure(concept.figure, path)


def _draw_all(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"cannot make the folder {folder}", cause=str(error)) from error
    for name in dict.fromkeys(concept.figure for concept in CONCEPTS if concept.figure):
        write_figure(name, folder / f"{name}.png")
        click.echo(folder / f"{name}.png")
