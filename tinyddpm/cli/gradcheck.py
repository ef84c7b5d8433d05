"""``tinyddpm gradcheck``."""

from __future__ import annotations

import sys

import click

from tinyddpm.cli.options import seed_type
from tinyddpm.gradcheck import certificates
from tinyddpm.gradcheck.complex_step import TOLERANCE

EXAMPLES = """\b
Example:
  tinyddpm gradcheck --seed 7
"""


@click.command(epilog=EXAMPLES, short_help="Certify every gradient.")
@click.option(
    "--seed", type=seed_type, metavar="N", default=0, help="Seed of the points and directions."
)
def gradcheck(seed: int) -> None:
    """Certify the backward of every op, every block and the whole U-Net by the complex step.

    Each line shows the largest relative error of a directional derivative. Exits with 1 if any is
    above 1e-11.
    """
    failed = 0
    for certificate in certificates(seed):
        verdict = "" if certificate.holds else "  FAILED"
        failed += not certificate.holds
        click.echo(f"{certificate.name:42} {certificate.error:8.1e}{verdict}")
    click.echo(
        f"tolerance {TOLERANCE:.0e}: {failed} failed" if failed else f"all within {TOLERANCE:.0e}"
    )
    if failed:
        sys.exit(1)
