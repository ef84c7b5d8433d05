"""Where a training step's time goes on a GPU: two events around every launch of a kernel.

The step is launched kernel by kernel, and not recorded. The host takes longer to launch a short
kernel than the device to run it. So the device is held up until a hundred launches are in its
queue, with their events, and then works on them one after the other, as on those of a recorded
step. What lies between them is everything else: the few kernels that are CuPy's own, the events,
and the gaps. Where the host copies something to the device it waits for that, and the queue is
filled anew.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple, cast

from tinyddpm.arrays import Array
from tinyddpm.benchmark import device
from tinyddpm.benchmark.clock import Event
from tinyddpm.benchmark.device_ours import DeviceOurs
from tinyddpm.kernels.cuda.runtime import Argument, Dim3, Function, Precision, Runtime, T
from tinyddpm.training.config import RunConfig
from tinyddpm.training.kernel_choice import cuda_runtime

WARM_UP = 2  # steps before those that are counted
TOGETHER = 100  # launches that wait in the queue together
HELD_UP = 0.1  # seconds that the device is: many times what the host takes for those launches


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


class Launch(NamedTuple):
    """A launch of ``kernel`` between two events."""

    kernel: str
    begun: Event
    ended: Event


class Marks:
    """The launches of a ``Runtime`` with an event before and one behind; nothing is recorded."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self.queues: list[list[Launch]] = [[]]  # of what was launched together

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
        queue = self.queues[-1]
        if not queue:
            device.hold_up(HELD_UP)
        begun, ended = device.new_event(), device.new_event()
        begun.record()
        self._runtime.launch(function, grid, block, args, shared_bytes=shared_bytes)
        ended.record()
        queue.append(Launch(function.name, begun, ended))
        if len(queue) == TOGETHER:
            self.queues.append([])

    def constant(self, host: Array) -> Array:
        """Copy ``host`` to the device, and wait until that has worked off its queue."""
        self.queues.append([])
        return self._runtime.constant(host)

    def upload(self, host: Array, into: Array) -> None:
        """The same, into an array that is there."""
        self.queues.append([])
        self._runtime.upload(host, into)

    @staticmethod
    def beside(work: Callable[[], T]) -> T:
        """Do ``work`` before what follows, so that a kernel's time is its own."""
        return work()

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
    marks.queues = [[]]
    for _ in range(steps):
        ours.train()
    queues = [queue for queue in marks.queues if queue]
    queues[-1][-1].ended.synchronize()
    return kernel_table(queues, steps)


def kernel_table(queues: list[list[Launch]], steps: int) -> KernelTable:
    """Add up the launches of ``steps`` steps by the kernels' names."""
    counts: Counter[str] = Counter()
    seconds: defaultdict[str, float] = defaultdict(float)
    between = 0.0
    for queue in queues:
        for launch in queue:
            counts[launch.kernel] += 1
            seconds[launch.kernel] += device.milliseconds(launch.begun, launch.ended) / 1e3
        for launch, following in pairwise(queue):
            between += device.milliseconds(launch.ended, following.begun) / 1e3
    total = sum(seconds.values()) + between
    rows = [
        KernelRow(name, counts[name] / steps, seconds[name] / steps, seconds[name] / total)
        for name in sorted(seconds, key=seconds.__getitem__, reverse=True)
    ]
    return KernelTable(rows, counts.total() / steps, between / steps, total / steps)
