"""The GPU as a benchmark sees it, through CuPy: its clock, its memory, its name.

Events are marks in the stream that ``cuda_runtime`` makes the current one: all our work goes there.
"""

from __future__ import annotations

import time
from typing import Any

from tinyddpm.benchmark.clock import Event, Step, seconds_by_events
from tinyddpm.training.kernel_choice import cuda_runtime


def description() -> dict[str, Any]:
    """Return the card, what it has, and the versions of what drives it."""
    import cupy  # noqa: PLC0415  an optional extra

    runtime, device = cupy.cuda.runtime, cupy.cuda.Device()
    card = runtime.getDeviceProperties(device.id)
    return {
        "card": card["name"].decode(),
        "compute_capability": f"{card['major']}.{card['minor']}",
        "multiprocessors": card["multiProcessorCount"],
        "card_memory": card["totalGlobalMem"],
        "driver": _cuda_version(runtime.driverGetVersion()),
        "nvrtc": ".".join(map(str, cupy.cuda.nvrtc.getVersion())),
        "cupy": cupy.__version__,
    }


def _cuda_version(number: int) -> str:
    """12080 is 12.8."""
    return f"{number // 1000}.{number % 1000 // 10}"


def seconds_of(step: Step, steps: int) -> float:
    """The mean seconds of a step of ours, over ``steps`` in a row, between two events."""
    return seconds_by_events(new_event, milliseconds, step, steps)


def new_event() -> Event:
    """Return an event, not yet in the queue."""
    import cupy  # noqa: PLC0415

    cuda_runtime()
    event: Event = cupy.cuda.Event()
    return event


def hold_up(seconds: float) -> None:
    """Have the device wait that long when it comes here; meanwhile launches queue up behind."""
    import cupy  # noqa: PLC0415

    cuda_runtime()
    cupy.cuda.get_current_stream().launch_host_func(time.sleep, seconds)


def milliseconds(begun: Event, ended: Event) -> float:
    """Return the time between two events that the device has come to."""
    import cupy  # noqa: PLC0415

    return float(cupy.cuda.get_elapsed_time(begun, ended))
