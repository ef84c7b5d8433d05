"""What a training step gains by what is done beside the rest (``Runtime.beside``), on a real card.

    python -m tests.cuda.in_order [BATCH]

The same step is recorded as it is and with all its launches in one line; both are timed in turns.
"""

import itertools
import sys
from dataclasses import replace

import click

from tinyddpm.benchmark.clock import Spread, in_turns, paired_ratio
from tinyddpm.benchmark.device_ours import DeviceOurs
from tinyddpm.training.config import recipe
from tinyddpm.training.kernel_choice import cuda_runtime

PRESETS, PRECISIONS = ("mnist", "mnist-1.7m", "cifar10"), ("tf32", "bf16")


class InOrder:
    """A runtime that does nothing beside."""

    def __init__(self, runtime):
        self._runtime = runtime

    def __getattr__(self, name):
        return getattr(self._runtime, name)

    def beside(self, work):
        return work()


def row(preset, precision, batch, rounds=10):
    """A line of a table: milliseconds a step, and how often the one goes into the other."""
    config = replace(recipe(preset, "random"), batch=batch)
    both = {
        "beside": DeviceOurs(config, precision),
        "in order": DeviceOurs(config, precision, InOrder(cuda_runtime())),
    }
    seconds = in_turns({name: ours.timed("train") for name, ours in both.items()}, rounds=rounds)
    times = "".join(f"{name} {1e3 * Spread.of(seconds[name]).median:.3f} ms, " for name in both)
    ratio = paired_ratio(seconds["in order"], seconds["beside"])
    what = f"{preset:12}{precision:6}{times}"
    return f"{what}{ratio.median:.3f}× ({ratio.lower:.3f} – {ratio.upper:.3f})"


if __name__ == "__main__":
    for preset, precision in itertools.product(PRESETS, PRECISIONS):
        click.echo(row(preset, precision, int(sys.argv[1]) if sys.argv[1:] else 128))
