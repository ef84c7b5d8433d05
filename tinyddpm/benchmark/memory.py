"""Resident memory of a training run, each measured in a process of its own.

A process that has done anything else keeps pages of it, and its peak is that of all it did.

``python -m tinyddpm.benchmark.memory TASK`` is such a process: it does what the JSON of ``TASK``
says and writes what it found, as JSON, to stdout.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import Any, NamedTuple

from tinyddpm.benchmark.against import load_torch
from tinyddpm.benchmark.ours import random_dataset
from tinyddpm.errors import TinyDDPMError
from tinyddpm.machine import peak_memory, resident_memory
from tinyddpm.parallel import Workers
from tinyddpm.training.config import RunConfig
from tinyddpm.training.kernel_choice import kernels_for
from tinyddpm.training.step import Trainer

STEPS = 5  # that a peak is taken over: a network reaches it in its first
WARM_UP = 20  # steps before growth is counted


class Memory(NamedTuple):
    """Bytes.

    Attributes:
        imports: resident when everything was imported and nothing computed.
        peak: the most that ever was resident.
        before: resident after the warm-up.
        after: resident at the end.
    """

    imports: int
    peak: int
    before: int
    after: int


@dataclass(frozen=True)
class Task:
    """A training run for a process of its own.

    Attributes:
        config: of the run, as JSON.
        threads: of it.
        steps: how many.
        layout: PyTorch's memory format; empty: it is our run.
    """

    config: dict[str, Any]
    threads: int
    steps: int = STEPS
    layout: str = ""


def measure(task: Task) -> Memory:
    """Carry out ``task`` in a fresh process.

    Raises:
        TinyDDPMError: it failed there; the cause is the end of what it wrote to stderr.
    """
    return Memory(**in_a_process("tinyddpm.benchmark.memory", vars(task)))


def in_a_process(module: str, task: dict[str, Any]) -> dict[str, Any]:
    """Run ``module`` on ``task`` in a fresh process, and return what it found; both are JSON.

    Raises:
        TinyDDPMError: it failed there; the cause is the end of what it wrote to stderr.
    """
    command = [sys.executable, "-m", module, json.dumps(task)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise TinyDDPMError(
            "the process whose memory was to be measured failed",
            cause="\n".join(done.stderr.strip().splitlines()[-3:]) or f"exit {done.returncode}",
            remedy="a smaller --batch, or --no-memory",
        )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def carry_out(task: Task) -> Memory:
    """Carry out ``task`` here."""
    config = RunConfig.from_json(task.config)
    torch_steps = load_torch() if task.layout else None
    imports = resident_memory()
    with Workers(task.threads) as workers:
        if torch_steps:
            torch_steps.set_threads(task.threads)
            images = random_dataset(config.network).images
            train = torch_steps.TorchRun(config, images, layout=task.layout).train
        else:
            train = _our_run(config, workers)
        before = imports
        for step in range(task.steps):
            if step == WARM_UP:
                before = resident_memory()
            train()
        return Memory(imports, peak_memory(), before, resident_memory())


def _our_run(config: RunConfig, workers: Workers) -> Callable[[], object]:
    """What does the next training step, as ``train`` does it: with no other network beside it."""
    trainer = Trainer(config, random_dataset(config.network), workers, kernels_for("cpu"))
    return map(trainer.step, count(1)).__next__


if __name__ == "__main__":
    sys.stdout.write(json.dumps(carry_out(Task(**json.loads(sys.argv[1])))._asdict()))
