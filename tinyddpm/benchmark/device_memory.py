"""Memory of a GPU that a training run takes, each measured in a process of its own.

A run of ours gives back nothing that it once took, and so it has taken most at the end; PyTorch's
has given back what only its search for the fastest convolutions needed.

``python -m tinyddpm.benchmark.device_memory TASK`` is such a process: it does what the JSON of
``TASK`` says and writes what it found, as JSON, to stdout.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from typing import Any, NamedTuple

from tinyddpm.benchmark.against import WARM_UP, load_torch
from tinyddpm.benchmark.device_ours import DeviceOurs, many_images
from tinyddpm.benchmark.memory import STEPS, in_a_process
from tinyddpm.kernels.cuda.runtime import Precision
from tinyddpm.training.config import RunConfig
from tinyddpm.training.kernel_choice import cuda_runtime


class DeviceMemory(NamedTuple):
    """Bytes of the card.

    Attributes:
        taken: by which its free memory fell: arrays, caches and the code of kernels alike.
        tensors: of these by tensors, at most, as PyTorch counts; ours are not counted.
    """

    taken: int
    tensors: int | None


@dataclass(frozen=True)
class Task:
    """A training run for a process of its own.

    Attributes:
        config: of the run, as JSON.
        precision: of the products.
        layout: PyTorch's memory format; empty: it is our run.
    """

    config: dict[str, Any]
    precision: Precision
    layout: str = ""


def measure(task: Task) -> DeviceMemory:
    """Carry out ``task`` in a fresh process.

    Raises:
        TinyDDPMError: it failed there.
    """
    return DeviceMemory(**in_a_process("tinyddpm.benchmark.device_memory", vars(task)))


def carry_out(task: Task) -> DeviceMemory:
    """Carry out ``task`` here."""
    config = RunConfig.from_json(task.config)
    free_memory, tensors = cuda_runtime().free_memory, None
    before = free_memory()
    if task.layout:
        torch_steps = load_torch()
        torch_steps.set_up_gpu(task.precision)
        run = torch_steps.TorchRun(
            config,
            many_images(config.network).images,
            layout=task.layout,
            device="cuda",
            precision=task.precision,
        )
        tensors = torch_steps.tensor_memory(run.train, warm_up=WARM_UP["cuda"], steps=STEPS)
    else:
        ours = DeviceOurs(config, task.precision)
        for _ in range(STEPS):
            ours.train()
    return DeviceMemory(before - free_memory(), tensors)


if __name__ == "__main__":
    sys.stdout.write(json.dumps(carry_out(Task(**json.loads(sys.argv[1])))._asdict()))
