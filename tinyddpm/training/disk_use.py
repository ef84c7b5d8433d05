"""The room that a run takes on disk.

A checkpoint is four flat float32 arrays (see ``checkpoint``), 16 bytes a parameter, and what the
sampler of times has learnt. A new one is whole before an old one goes.
"""

from __future__ import annotations

from typing import NamedTuple

from tinyddpm.training.checkpoint import FLAT
from tinyddpm.training.config import RunConfig
from tinyddpm.training.run_directory import KEPT

METRICS_LINE = 240  # bytes, about


class DiskUse(NamedTuple):
    """What a run will occupy, its previews (pictures of 16 images) aside; sizes in bytes.

    Attributes:
        checkpoint: one of them, as a file.
        checkpoints: how many there will be at the end.
        most: how many there will be at once.
        metrics: the file of metrics at the end.
    """

    checkpoint: int
    checkpoints: int
    most: int
    metrics: int

    @property
    def total(self) -> int:
        """At the end."""
        return self.checkpoint * self.checkpoints + self.metrics


def disk_use(
    config: RunConfig, parameters: int, save_every: int, *, first: int = 0, saved: int = 0
) -> DiskUse:
    """Return what a run will occupy.

    Args:
        config: of the run.
        parameters: of its network.
        save_every: steps between checkpoints; 0: only at the end.
        first: steps done so far.
        saved: checkpoints there are so far.
    """
    extra = config.diffusion.build_times().state().values()
    on_the_way = multiples(first, config.train_steps - 1, save_every)
    in_all = saved + (0 if saved else 1) + on_the_way + 1  # that of step 0, if there is none
    return DiskUse(
        checkpoint=len(FLAT) * 4 * parameters + sum(array.nbytes for array in extra),
        checkpoints=min(KEPT, in_all),
        most=min(KEPT + 1, in_all),
        metrics=METRICS_LINE * config.train_steps,
    )


def multiples(first: int, last: int, every: int) -> int:
    """How many of the steps after ``first`` up to ``last`` are multiples of ``every``; 0: none."""
    return last // every - first // every if every else 0
