"""All that ``tinyddpm bench`` measures on a GPU, one after the other."""

from __future__ import annotations

from tinyddpm.benchmark import device, device_memory, surroundings
from tinyddpm.benchmark.device_memory import DeviceMemory
from tinyddpm.benchmark.device_ours import DeviceOurs
from tinyddpm.benchmark.flops import forward_products
from tinyddpm.benchmark.kernel_table import KernelTable, measure_kernels
from tinyddpm.benchmark.report import OP_STEPS, Report, Say, Settings, against, speed


def measure(settings: Settings, say: Say) -> Report:
    """Measure what ``settings`` ask for; ``say`` is told what is being done.

    Growth and scaling are a CPU's.

    Raises:
        UsageError: PyTorch is to be compared with and not installed.
        TinyDDPMError: PyTorch's network does not compute what ours does.
        DeviceError: the kernels do not compile.
    """
    settings = settings._replace(shard=settings.batch, threads=1)
    config = settings.config()
    where = surroundings.description() | device.description()
    ours = DeviceOurs(config, settings.precision)
    train, sample = (speed(ours, kind, settings, None, say) for kind in ("train", "sample"))
    beside = against(ours, settings, train, sample, say) if settings.modes else None
    return Report(
        machine=where,
        settings=settings,
        parameters=ours.parameters.count,
        forward=forward_products(config.network),
        train=train,
        sample=sample,
        ops=_kernels(settings, say) if settings.ops else None,
        memory=_memory(settings, say) if settings.memory else None,
        against=beside,
    )


def _kernels(settings: Settings, say: Say) -> KernelTable:
    say("training steps by kernel")
    return measure_kernels(settings.config(), settings.precision, OP_STEPS)


def _memory(settings: Settings, say: Say) -> dict[str, DeviceMemory]:
    say("memory of the card, each run in a process of its own")
    task = device_memory.Task(settings.config().to_json(), settings.precision)
    found = {"tinyddpm": device_memory.measure(task)}
    if settings.modes:
        theirs = device_memory.Task(task.config, settings.precision, "channels last")
        found["PyTorch eager, channels last"] = device_memory.measure(theirs)
    return found
