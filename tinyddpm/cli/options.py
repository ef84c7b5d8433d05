"""Options that several verbs share."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import click

from tinyddpm.kernels.cuda.runtime import Precision

RUNS = Path("runs")  # where runs are written, and looked for

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
    help="What a GPU multiplies; it adds in float32, and a CPU computes in float32 anyway.",
)
threads_option = click.option(
    "--threads",
    type=click.IntRange(min=0),
    default=0,
    help="Threads on a CPU, 0: one for each core. The result does not depend on it.",
)
seed_type = click.IntRange(0, 2**32 - 1)
