"""What ``train --dry-run`` prints."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import click

from tinyddpm.cli.messages import say
from tinyddpm.cli.progress import duration
from tinyddpm.cli.train_plan import Plan
from tinyddpm.training.estimate import TIMED_STEPS, Estimate, estimate
from tinyddpm.training.loop import Execution

MIB = 2**20


def show(plan: Plan, execution: Execution, out: Path, *, as_json: bool) -> None:
    """Print what the run will take, if it is written to ``out``."""
    say(f"timing {TIMED_STEPS + 1} steps of {plan.config.batch} images")
    found = estimate(plan.config, plan.dataset, execution, plan.checkpoint)
    free = free_space(plan.run.path if plan.run else out)
    if as_json:
        whole = {**found._asdict(), "disk": found.disk, "free": free, "seconds": found.seconds}
        click.echo(json.dumps(whole, indent=2))
    else:
        click.echo("\n".join(_as_text(plan, found, free)))
    needed = found.disk + found.checkpoint  # a new one is whole before an old one goes
    if needed > free:
        say(f"warning: {size(needed)} are needed, and {size(free)} are free")


def _as_text(plan: Plan, found: Estimate, free: int) -> Iterator[str]:
    seconds = sorted(found.step_seconds)
    yield f"parameters  {found.parameters:,}"
    yield f"steps       {found.steps:,} of {plan.config.batch} images"
    yield (
        f"memory      {size(found.peak_memory)}, the peak of {len(seconds) + 1} steps "
        f"and a preview ({size(found.images)} of it images); "
        f"up to {size(found.checkpoint)} more while a checkpoint is written"
    )
    yield (
        f"disk        {size(found.disk)}: {found.checkpoints} checkpoints of "
        f"{size(found.checkpoint)} and {size(found.metrics)} of metrics; {size(free)} are free"
    )
    yield (
        f"time        {duration(found.seconds)}, from {len(seconds)} steps of "
        f"{seconds[0]:.3f} to {seconds[-1]:.3f} s and {found.previews} previews of "
        f"{found.preview_seconds:.1f} s; writing checkpoints comes on top"
    )


def size(count: int) -> str:
    """Return ``count`` bytes in MiB, or in GiB from 1,000 MiB on."""
    if count >= 1000 * MIB:
        return f"{count / 1024 / MIB:.1f} GiB"
    return f"{count / MIB:.1f} MiB" if count < 10 * MIB else f"{count / MIB:.0f} MiB"


def free_space(folder: Path) -> int:
    """Return the bytes that are free for ``folder``, which may be yet to be made."""
    folder = folder.absolute()
    return shutil.disk_usage(folder).free if folder.is_dir() else free_space(folder.parent)
