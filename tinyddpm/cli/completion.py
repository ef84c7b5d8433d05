"""``tinyddpm completion``, and what the words after a verb may be."""

from __future__ import annotations

import click
from click.shell_completion import BashComplete, CompletionItem, FishComplete, ZshComplete

from tinyddpm.cli.options import RUNS
from tinyddpm.data import LOADERS
from tinyddpm.nn.config import PRESETS

EXAMPLES = """\b
Examples:
  eval "$(tinyddpm completion bash)"                       in ~/.bashrc
  eval "$(tinyddpm completion zsh)"                        in ~/.zshrc, below compinit
  tinyddpm completion fish > ~/.config/fish/completions/tinyddpm.fish
"""
SHELLS = {"bash": BashComplete, "zsh": ZshComplete, "fish": FishComplete}
PROGRAM = "tinyddpm"


@click.command(epilog=EXAMPLES, short_help="Print a script for completion in a shell.")
@click.argument("shell", type=click.Choice(list(SHELLS)))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the script that lets a shell complete verbs, options, runs, presets and data sets."""
    verbs = ctx.find_root().command
    click.echo(SHELLS[shell](verbs, {}, PROGRAM, f"_{PROGRAM.upper()}_COMPLETE").source())


def complete_run(
    _ctx: click.Context, _param: click.Parameter, incomplete: str
) -> list[CompletionItem[str]]:
    """Return the runs that ``incomplete`` may become; where there is none, any file may do."""
    runs = sorted(str(path.parent) for path in RUNS.glob("*/checkpoints"))
    matching = [CompletionItem(run) for run in runs if run.startswith(incomplete)]
    return matching or [CompletionItem(incomplete, type="file")]


def complete_preset(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    """Return the presets that ``incomplete`` may become."""
    return [name for name in PRESETS if name.startswith(incomplete)]


def complete_data(
    _ctx: click.Context, _param: click.Parameter, incomplete: str
) -> list[CompletionItem[str]]:
    """Return the data sets that ``incomplete`` may become; where there is none, any file may do."""
    matching = [CompletionItem(name) for name in LOADERS if name.startswith(incomplete)]
    return matching or [CompletionItem(incomplete, type="file")]
