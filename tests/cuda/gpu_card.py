"""What the benchmark asks a card beside its kernels: events with a clock, memory, a name."""

import time
import types

import fake_cuda
import numpy as np

TOTAL = 2**30  # bytes of the card


class Event(fake_cuda.Event):
    """A mark in the work of the simulated card, which does everything at once, in host time."""

    done = 0.0  # until when the host has waited

    def record(self):  # in the current stream
        self.at = time.perf_counter()

    def synchronize(self):
        super().synchronize()
        if not self.for_waiting:  # in the stream of a recording, which keeps no time
            Event.done = max(Event.done, self.at)


def milliseconds(begun, ended):
    assert ended.at <= Event.done, "cudaErrorNotReady"
    return 1e3 * (ended.at - begun.at)


class Card:
    """A device that nobody gives memory back to."""

    id, compute_capability = 0, "90"

    def __init__(self):
        self.taken = 0

    mem_info = property(lambda self: (TOTAL - self.taken, TOTAL))

    def counted(self, create):
        def counting(shape, dtype=float):
            self.taken += int(np.prod(shape)) * np.dtype(dtype).itemsize
            return create(shape, dtype)

        return counting


def equip(cupy):
    """Give the module of ``fake_cupy`` a card."""
    card = Card()
    cupy.empty, cupy.zeros = card.counted(cupy.empty), card.counted(cupy.zeros)
    cuda, name = cupy.cuda, {"name": b"Simulated", "major": 9, "minor": 0}
    cuda.Event, cuda.get_elapsed_time, cuda.Device = Event, milliseconds, lambda: card
    cuda.runtime.getDeviceProperties = lambda _device: (
        name
        | {
            "multiProcessorCount": 4,
            "totalGlobalMem": TOTAL,
        }
    )
    cuda.get_current_stream = lambda: types.SimpleNamespace(launch_host_func=lambda f, x: f(x))
    cuda.runtime.driverGetVersion = lambda: 12080
    cuda.nvrtc = types.SimpleNamespace(getVersion=lambda: (12, 9))
    return card
