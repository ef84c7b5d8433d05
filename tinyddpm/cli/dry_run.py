"""What ``train --dry-run`` prints."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import click

from tinyddpm.cli.messages import say
from tinyddpm.cli.progress import duration
from tinyddpm.cli.sizes import free_space, size
from tinyddpm.cli.train_plan import Plan, room_needed
from tinyddpm.training.forecast import Forecast, forecast
from tinyddpm.training.loop import Execution


def show(plan: Plan, execution: Execution, out: Path, *, as_json: bool) -> None:
    """Print what the run will take, if it is written to ``out``."""
    say("measuring what a step takes")
    saved = len(plan.run.saved()) if plan.run else 0
    found = forecast(plan.config, plan.dataset, execution, plan.checkpoint, saved)
    free = free_space(plan.run.path if plan.run else out)
    if as_json:
        disk = {**found.disk._asdict(), "disk": found.disk.total, "free": free}
        whole = {**found._asdict(), **disk, "seconds": found.seconds}
        click.echo(json.dumps(whole, indent=2))
    else:
        click.echo("\n".join(_as_text(found, free)))
    if found.least_memory > found.free_memory:
        say(
            f"warning: a step needs at least {size(found.least_memory)} of memory, and "
            f"{size(found.free_memory)} are free: a smaller --batch or --shard"
        )
    needed = room_needed(plan, found.parameters, execution.save_every)
    if needed > free:
        say(f"warning: {size(needed)} are needed, and {size(free)} are free")


def _as_text(found: Forecast, free: int) -> Iterator[str]:
    disk = found.disk
    yield f"parameters  {found.parameters:,}"
    yield f"steps       {found.steps:,} of {found.batch:,} images"
    yield f"memory      {_memory(found)}"
    if found.card_memory is not None and found.card_free is not None:
        taken, free_before = size(found.card_memory), size(found.card_free)
        yield f"GPU memory  {taken}, of {free_before} that were free"
    yield (
        f"disk        {size(disk.total)}: {disk.checkpoints} checkpoints of "
        f"{size(disk.checkpoint)} and {size(disk.metrics)} of metrics; {size(free)} are free"
    )
    yield f"time        {_time(found)}"


def _memory(found: Forecast) -> str:
    if found.peak_memory is None:
        return f"at least {size(found.least_memory)}; {size(found.free_memory)} are free"
    return (
        f"{size(found.peak_memory)}, the peak of {len(found.step_seconds) + 1} steps"
        f"{' and a preview' if found.previews else ''} ({size(found.images)} of it images); "
        f"up to {size(found.disk.checkpoint)} more while a checkpoint is written"
    )


def _time(found: Forecast) -> str:
    if found.seconds is None:
        return "not known: no step was done, for it would not fit into memory"
    seconds = sorted(found.step_seconds)
    part = f" with {found.timed_images:,} images" if found.timed_images < found.batch else ""
    count = found.previews
    previews = f" and {count:,} preview{'s' * (count > 1)} of {found.preview_seconds:.1f} s"
    return (
        f"{duration(found.seconds)}, from {len(seconds)} steps{part} of "
        f"{seconds[0]:.3f} to {seconds[-1]:.3f} s{previews if count else ''}; "
        "writing checkpoints comes on top"
    )
