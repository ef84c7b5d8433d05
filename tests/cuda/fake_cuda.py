"""The card under ``fake_cupy``: its stream, which may be captured, its graphs and its memory."""

import threading
import types
import weakref
from collections import deque
from contextlib import contextmanager
from typing import ClassVar

import numpy as np


class Capture:
    """What is written down at the moment; None where the stream carries things out."""

    nodes = None
    uploads = 0  # copies from the host so far
    pool = None  # of the recording, where memory comes from it


def do(action):
    assert not Stream.now().late, "only kernels of our own are beside others"
    if Capture.nodes is None:
        with np.errstate(all="ignore"):
            action()
    else:
        Capture.nodes.append(action)


def refuse_in_capture(what):
    if Capture.nodes is not None:
        raise RuntimeError(f"{what} is refused while a stream is captured")


def garbage(shape, dtype):
    array = np.empty(shape, dtype)
    spoil(array)
    return array


def spoil(array):
    array.reshape(-1).view(np.uint8)[...] = 0xFF if array.dtype != np.bool_ else 1


class Graph:
    def __init__(self, nodes):
        self.nodes = nodes

    def upload(self, stream):
        pass

    def launch(self, _stream):
        with np.errstate(all="ignore"):
            for node in self.nodes:
                node()


class Event:
    """A mark in the work of the device; who waits for one without ``block`` burns a core."""

    waited_for = 0

    def __init__(self, *, block=False, disable_timing=False):
        self.for_waiting = block and disable_timing

    def synchronize(self):
        refuse_in_capture("waiting for an event")
        Event.waited_for += 1


class Stream:
    """Its work is done at once; but once it has waited for another, only when that waits for it.

    Then it is done as late as may be, and the other may have spoilt what it reads, or given the
    memory of that back: so it is not kept here.
    """

    current: ClassVar = {}  # of each thread
    forked: ClassVar = []  # since the capture began, if there is one

    def __init__(self, *, non_blocking):
        assert non_blocking
        self.late, self.waiting, self.own = False, deque(), []

    @classmethod
    def now(cls):
        return cls.current.get(threading.get_ident(), NULL_STREAM)

    def use(self):
        self.current[threading.get_ident()] = self
        return self

    def synchronize(self):
        refuse_in_capture("waiting for the stream")

    def record(self, event):
        if event.for_waiting:
            refuse_in_capture("a mark for the host")
        event.stream = self
        if self.late:
            self.waiting.append(event)
        return event

    def wait_event(self, event):
        if event.stream.late:
            event.stream.work_until(event)
        else:
            self.late = True
            self.forked.append(self)

    def work_until(self, event):
        while (action := self.waiting.popleft()) is not event:
            if not isinstance(action, Event):
                do(action())
        if not self.waiting:
            self.own.clear()

    def launch(self, kernel, arguments):
        """Have ``kernel`` called with ``arguments``, some of which are arrays."""
        assert self is not NULL_STREAM, "a launch on the null stream"
        held = [self.held(argument) for argument in arguments]

        def bound():
            values = [value() for value in held]
            return lambda: kernel(values)

        if self.late:
            assert self in self.forked, "the graph would do without this"
            self.waiting.append(bound)
        else:
            do(bound())

    def held(self, argument):
        """What gives ``argument`` when the work is done, unless its memory was given back."""
        if not self.late or not isinstance(argument, np.ndarray):
            return lambda: argument
        owner = argument if argument.base is None else argument.base
        if any(owner is mine for mine in self.own):
            return lambda: argument
        weak, shape, dtype = weakref.ref(owner), argument.shape, argument.dtype
        offset = argument.ctypes.data - owner.ctypes.data

        def get():
            assert weak() is not None, "the memory of an argument was given back too early"
            return np.ndarray(shape, dtype, weak(), offset)

        return get

    def begin_capture(self):
        Capture.nodes = []
        self.forked.clear()

    def end_capture(self):
        nodes, Capture.nodes = Capture.nodes, None
        for stream in self.forked:
            if stream.waiting:
                stream.waiting.clear()
                raise CUDARuntimeError("cudaErrorStreamCaptureUnjoined")
        return Graph(nodes)


NULL_STREAM = Stream(non_blocking=True)


class CUDADriverError(RuntimeError):
    """What the driver refuses or finds to have failed."""


class CUDARuntimeError(RuntimeError):
    """As CuPy's, by name."""


class OutOfMemoryError(MemoryError):
    """As CuPy's, by name."""


class Memory:
    """A piece of the card's memory; the next ``room`` pieces are to be had, and then one fails."""

    room = float("inf")

    def __init__(self, _size):
        Memory.room -= 1
        if Memory.room == -1:
            raise CUDARuntimeError("cudaErrorMemoryAllocation: out of memory")


class MemoryPool:
    """It asks its allocator, and where that fails once more, with what it gave back to be had.

    Like CuPy's it gives nothing back by being dropped. What is taken from it is free at once,
    unless a test says that some is ``in_use``.
    """

    taken = 0  # bytes of the card, by all pools that there ever were

    def __init__(self, allocator=Memory):
        self.allocator, self.bytes, self.in_use = allocator, 0, 0

    def malloc(self, size):
        try:
            return self._taken(size)
        except CUDARuntimeError:
            self.free_all_blocks()
        try:
            return self._taken(size)
        except CUDARuntimeError as error:
            raise OutOfMemoryError(f"Out of memory allocating {size:,} bytes") from error

    def _taken(self, size):
        memory = self.allocator(size)
        self.bytes += size
        MemoryPool.taken += size
        return memory

    def free_all_blocks(self):
        MemoryPool.taken -= self.bytes - self.in_use
        self.bytes = self.in_use

    def total_bytes(self):
        return self.bytes


DEFAULT_POOL = MemoryPool()


class CompileException(Exception):
    """As CuPy's, by name."""


def cuda():
    @contextmanager
    def using_allocator(malloc):
        before, pool = Capture.pool, malloc.__self__
        Capture.pool = None if pool is DEFAULT_POOL else pool
        try:
            yield
        finally:
            Capture.pool = before

    device = types.SimpleNamespace(compute_capability="90")
    return types.SimpleNamespace(
        Stream=Stream,
        Event=Event,
        Memory=Memory,
        MemoryPointer=lambda memory, _offset: memory,
        MemoryPool=MemoryPool,
        using_allocator=using_allocator,
        alloc_pinned_memory=bytearray,
        Device=lambda: device,
        runtime=types.SimpleNamespace(getDeviceCount=lambda: 1, CUDARuntimeError=CUDARuntimeError),
        driver=types.SimpleNamespace(CUDADriverError=CUDADriverError),
        compiler=types.SimpleNamespace(CompileException=CompileException),
    )
