"""Small training states, and a process that saves them until it is killed.

``python training_states.py RUN lock`` holds the lock of a run; ``RUN save`` saves one step after
the other; ``RUN die K`` saves one and kills itself at the K-th thing that it asks of the disk.
"""

import itertools
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tinyddpm.training.checkpoint import FLAT, Checkpoint
from tinyddpm.training.run_directory import RunDirectory


def state(step: int = 1000, scale: int = 1) -> Checkpoint:
    """A state that follows from ``step`` alone."""
    shapes = [("conv.weight", (3, 3, scale, 2)), ("conv.bias", (2,)), ("scalar", ())]
    count = 18 * scale + 3
    return Checkpoint(
        step=step,
        config={"data": "glyphs", "channels": [16, 32], "lr": 2e-4, "model": {"heads": 1}},
        data_fingerprint="sha256:0123",
        parameters=shapes,
        seconds=step / 8,
        value=_numbers(count, step).astype(np.float32),
        ema=_numbers(count, step + 1).astype(np.float32),
        adam_m=_numbers(count, step + 2).astype(np.float32),
        adam_v=np.abs(_numbers(count, step + 3)).astype(np.float32),
        extra={"vlb_history": _numbers(8, step).reshape(4, 2), "vlb_count": np.arange(4)},
    )


def _numbers(count: int, seed: int) -> npt.NDArray[np.float64]:
    """Scattered values in (−1/2, 1/2), exact in float32 and the same on every machine."""
    return ((np.arange(count) * 7919 + seed * 104729) % 1009 - 504) / 1024


def same(a: Checkpoint, b: Checkpoint) -> bool:
    """Whether two checkpoints agree in every field and every bit of every array."""
    fields = ("step", "config", "data_fingerprint", "parameters", "seconds")
    pairs = [(getattr(a, name), getattr(b, name)) for name in FLAT]
    pairs += [(a.extra[name], b.extra[name]) for name in a.extra.keys() & b.extra.keys()]
    return (
        all(getattr(a, name) == getattr(b, name) for name in fields)
        and a.extra.keys() == b.extra.keys()
        and all(x.dtype == y.dtype and np.array_equal(x, y) for x, y in pairs)
    )


def counted_disk_calls(act: Callable[[int], None]) -> dict[str, Callable[..., Any]]:
    """The functions of ``os`` by which a save reaches the disk; ``act`` is told each call's number.

    ``act`` comes before the call, which does not happen if it raises.
    """
    calls = itertools.count(1)

    def count(function: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any, **options: Any) -> Any:
            act(next(calls))
            return function(*arguments, **options)

        return counted

    return {name: count(getattr(os, name)) for name in ("fsync", "replace", "unlink")}


def _main(path: str, mode: str, die_at: str = "0") -> None:
    run = RunDirectory.open(Path(path))

    def die(call: int) -> None:
        if call == int(die_at):
            os.kill(os.getpid(), signal.SIGKILL)

    with run.lock():
        step = run.latest_checkpoint().checkpoint.step
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        if mode == "lock":
            time.sleep(60)
        if mode == "die":
            for name, function in counted_disk_calls(die).items():
                setattr(os, name, function)
            run.save_checkpoint(state(step + 1), keep=2)
        while mode == "save":
            step += 1
            run.save_checkpoint(state(step, scale=500))


if __name__ == "__main__":
    _main(*sys.argv[1:])
