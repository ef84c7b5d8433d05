"""``tinyddpm verify``."""

from __future__ import annotations

import json
import math
import sys

import click

from tinyddpm.cli.options import finite, seed_type
from tinyddpm.identities import IDENTITIES, Identity, Outcome, Setting

EXAMPLES = """\b
Examples:
  tinyddpm verify
  tinyddpm verify --seed 7 --samples 1000000
  tinyddpm verify --json
"""


@click.command(epilog=EXAMPLES, short_help="Test the mathematics by Monte Carlo.")
@click.option(
    "--seed", type=seed_type, metavar="N", default=0, help="Seed of the draws and of the chain."
)
@click.option(
    "--samples",
    type=click.IntRange(1000, 10_000_000),
    default=200_000,
    metavar="N",
    help="Images drawn for each identity; with more, smaller errors are found.",
)
@click.option(
    "--alpha",
    type=click.FloatRange(0.0, 1.0, min_open=True, max_open=True),
    default=1e-6,
    callback=finite,
    metavar="P",
    help="Probability that any identity is rejected although all hold.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of the table.")
def verify(seed: int, samples: int, alpha: float, as_json: bool) -> None:  # noqa: FBT001
    """Test the identities of diffusion on random draws.

    Each line shows an identity: its number, its name, the statistic furthest from what it should
    be, and an upper bound on its p-value or, if it must hold to the last digits, the tolerance. An
    identity is rejected if that bound is less than an equal share of alpha (Bonferroni). Exits with
    1 if any is rejected.
    """
    setting, share = Setting.drawn(seed, samples), alpha / len(IDENTITIES)
    rejected, results = 0, []
    for identity in IDENTITIES:
        outcome = identity(setting)
        holds = outcome.holds(share)
        rejected += not holds
        if as_json:
            results.append(_entry(identity, outcome, holds=holds))
        else:
            click.echo(_line(identity, outcome, holds=holds))
    if as_json:
        report = {
            "seed": seed,
            "samples": samples,
            "beta": setting.beta,
            "alpha": alpha,
            "correction": "Bonferroni",
            "share": share,
            "rejected": rejected,
            "identities": results,
        }
        click.echo(json.dumps(report, ensure_ascii=False, indent=2))
    else:
        verdict = f"{rejected} REJECTED" if rejected else "all hold"
        click.echo(
            f"{len(IDENTITIES)} identities, each rejected only if p < {share:.1e}: {verdict}"
        )
    if rejected:
        sys.exit(1)


def _line(identity: Identity, outcome: Outcome, *, holds: bool) -> str:
    statistic = f"{outcome.kind} = {outcome.statistic:.3g}"
    bound = f"p ≤ {outcome.p_value:.1e}"
    if outcome.tolerance is not None:
        statistic = f"{outcome.kind} = {outcome.statistic:.3e}"
        bound = f"≤ {outcome.tolerance:.3e}"
    verdict = "holds" if holds else "REJECTED"
    return f"{identity.number:>5}  {identity.name:39}  {statistic:17}  {bound:11}  {verdict}"


def _entry(identity: Identity, outcome: Outcome, *, holds: bool) -> dict[str, object]:
    exact = outcome.tolerance is not None
    return {
        "number": identity.number,
        "name": identity.name,
        "equation": identity.equation,
        "exercises": [f"{f.__module__}.{f.__qualname__}" for f in identity.exercises],
        "kind": outcome.kind,
        "statistic": outcome.statistic if math.isfinite(outcome.statistic) else None,
        "p_value": None if exact else outcome.p_value,
        "tolerance": outcome.tolerance,
        "verdict": "holds" if holds else "rejected",
    }
