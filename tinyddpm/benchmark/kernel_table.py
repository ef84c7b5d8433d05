"""Where a training step's time goes on a GPU: two events around every launch of a kernel.

The step is launched kernel by kernel, and not recorded. The host takes longer to launch a short
kernel than that runs. So the device is held up until a hundred launches are in its queue, with
their events, and then works on them one after the other, as on those of a recorded step. What lies
between them is everything else: the few kernels that are CuPy's own, the events, and the gaps.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, cast

from tinyddpm.benchmark import device
from tinyddpm.benchmark.clock import Event
from tinyddpm.benchmark.device_ours import DeviceOurs
from tinyddpm.kernels.cuda.runtime import Argument, Dim3, Function, Precision, Runtime
from tinyddpm.training.config import RunConfig
from tinyddpm.training.kernel_choice import cuda_runtime

WARM_UP = 2  # steps before those that are counted
TOGETHER = 100  # launches that wait in the queue together
HELD_UP = 0.02  # seconds that the device is: several times what the host takes for those launches


class KernelRow(NamedTuple):
    """A kernel, per step.

    Attributes:
        kernel: its name.
        launches: how many.
        seconds: of all of them.
        share: of the step.
    """

    kernel: str
    launches: float
    seconds: float
    share: float


class KernelTable(NamedTuple):
    """A training step kernel by kernel.

    Attributes:
        rows: the kernels, the slowest first.
        launches: of a step.
        everything_else: seconds of a step between these launches.
        total: seconds of a step.
    """

    rows: list[KernelRow]
    launches: float
    everything_else: float
    total: float


class Marks:
    """The launches of a ``Runtime`` with an event before and one behind; nothing is recorded."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self.launches: list[tuple[str, Event, Event]] = []

    def __getattr__(self, name: str) -> Any:
        """All else is the runtime's own."""
        return getattr(self._runtime, name)

    def launch(
        self,
        function: Function,
        grid: Dim3,
        block: Dim3,
        args: Sequence[Argument],
        *,
        shared_bytes: int = 0,
    ) -> None:
        """Run ``function`` between two events."""
        if len(self.launches) % TOGETHER == 0:
            device.hold_up(HELD_UP)
        begun, ended = device.new_event(), device.new_event()
        begun.record()
        self._runtime.launch(function, grid, block, args, shared_bytes=shared_bytes)
        ended.record()
        self.launches.append((function.name, begun, ended))

    @staticmethod
    def record(work: Callable[[], None]) -> Callable[[], None]:
        """Do ``work``, now and whenever it is asked for again."""
        work()
        return work


def measure_kernels(config: RunConfig, precision: Precision, steps: int) -> KernelTable:
    """Time the kernels of our own over ``steps`` training steps of ``config``."""
    marks = Marks(cuda_runtime())
    ours = DeviceOurs(config, precision, cast(Runtime, marks))  # what it lacks, __getattr__ has
    for _ in range(WARM_UP):
        ours.train()
    marks.launches.clear()
    for _ in range(steps):
        ours.train()
    marks.launches[-1][2].synchronize()
    return kernel_table(marks.launches, steps)


def kernel_table(launches: list[tuple[str, Event, Event]], steps: int) -> KernelTable:
    """Add up the ``launches`` of ``steps`` steps by the kernels' names."""
    counts: Counter[str] = Counter()
    seconds: defaultdict[str, float] = defaultdict(float)
    for name, begun, ended in launches:
        counts[name] += 1
        seconds[name] += device.milliseconds(begun, ended) / 1e3
    between = sum(
        device.milliseconds(launches[i - 1][2], launches[i][1]) / 1e3
        for i in range(len(launches))
        if i % TOGETHER  # before the others the device was held up
    )
    total = sum(seconds.values()) + between
    rows = [
        KernelRow(name, counts[name] / steps, seconds[name] / steps, seconds[name] / total)
        for name in sorted(seconds, key=seconds.__getitem__, reverse=True)
    ]
    return KernelTable(rows, len(launches) / steps, between / steps, total / steps)
