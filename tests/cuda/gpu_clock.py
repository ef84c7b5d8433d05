"""What the parts of ``on_a_gpu.py`` share: the clock, and how a result is told."""

import json
from dataclasses import replace

import click
import numpy as np
from on_a_gpu import RESULT

from tinyddpm.training.config import recipe

ROUNDS, ROUND_MS = 9, 200.0


class Clock:
    """Times between two events of a device.

    Args:
        event: makes an event, which knows ``record`` and ``synchronize``.
        between: milliseconds between two events.
    """

    def __init__(self, event, between):
        self.event, self.between = event, between

    def ms(self, step, count):
        """Milliseconds a step, over ``count`` in a row."""
        begun, ended = self.event(), self.event()
        begun.record()
        for _ in range(count):
            step()
        ended.record()
        ended.synchronize()
        return self.between(begun, ended) / count

    def spread(self, step):
        """The quartiles of several rounds, after a warm-up."""
        self.ms(step, 3)
        count = max(1, round(ROUND_MS / self.ms(step, 3)))
        return np.quantile([self.ms(step, count) for _ in range(ROUNDS)], [0.25, 0.5, 0.75])


def tell(kind, preset, precision, who, batch, quartiles):
    """Print one result, for people and for ``on_a_gpu.py``."""
    lower, median, upper = (float(q) for q in quartiles)
    click.echo(
        f"{who} {kind} {preset} {precision}: {median:.3f} ms ({lower:.3f} to {upper:.3f}), "
        f"{1000 * batch / median:,.0f} images/s"
    )
    found = {"kind": kind, "preset": preset, "precision": precision, "who": who, "batch": batch}
    keep(found | {"ms": median, "lower": lower, "upper": upper})


def keep(result):
    """Print a result for ``on_a_gpu.py``."""
    click.echo(RESULT + json.dumps(result))


def config_of(preset, batch):
    """The recipe of a preset, on random images."""
    return replace(recipe(preset, "random"), batch=batch)
