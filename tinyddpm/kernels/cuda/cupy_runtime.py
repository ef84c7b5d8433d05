"""The runtime on a real GPU, through CuPy.

Everything goes to one stream, in order, but for what is done ``beside``: that goes to a second one.
The first waits for it where it falls too far behind, and in the end. Until then what it reads is
kept, for memory that is given back is used again by later launches of the same stream, which would
not wait. (Not by those of the other: CuPy's pools keep the memory of streams apart.)

A recorded piece of work becomes a CUDA graph: it is done once, so that every kernel is compiled and
loaded, and then once more while the streams write down their launches instead of carrying them out.
Its temporary arrays come from a memory pool of its own,
which lives as long as the graph: what is freed during the recording is used again only by later
launches of the same graph, and by nothing else. Constants are not from that pool: they are filled
once, and a launch that comes earlier in the graph must not work in their memory.

CuPy's pools do not give their memory back when they are dropped (14.2: the list of free pieces
holds each piece, and each piece the list). So those of graphs that are gone are kept in mind, and
emptied before the next recording.
"""

from __future__ import annotations

import gc
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, final

import numpy as np
import numpy.typing as npt

from tinyddpm.arrays import Array, compiled
from tinyddpm.errors import DeviceError
from tinyddpm.kernels.cuda.runtime import (
    AHEAD,
    Argument,
    Dim3,
    Function,
    T,
    check_launch,
    exact_arguments,
)
from tinyddpm.kernels.cuda.source import Defines, signatures, source

_SHARED_WITHOUT_ASKING = 48 * 1024
_BEHIND = 2  # pieces of work that may be under way beside the rest; what they read takes up memory
_NULL = np.uint64(0)


@final
class CupyRuntime:
    """A ``Runtime`` on the current CUDA device, for one thread at a time (``use``)."""

    def __init__(self) -> None:
        import cupy  # noqa: PLC0415  an optional extra

        self._cupy = cupy
        self._stream, self._second = (cupy.cuda.Stream(non_blocking=True) for _ in range(2))
        self._beside: deque[tuple[Any, Any]] = deque()  # work under way there, and its end
        self._constants: list[tuple[Array, Array]] | None = None  # of the present recording
        self._retired: deque[Any] = deque()  # pools of recordings that nobody has any more
        self._functions: dict[Any, dict[str, Function]] = {}  # by file and defines, and by name
        self.use()

    def use(self) -> None:
        """Make the calling thread launch on the stream of this runtime, whatever it launches."""
        self._stream.use()

    def give_back(self) -> None:
        """Let others have the memory that was taken and is not in use."""
        self._empty_retired_pools()
        self._cupy.get_default_memory_pool().free_all_blocks()

    def free_memory(self) -> int:
        """Return the bytes of the GPU that nobody has taken, whoever it be."""
        free, _total = self._cupy.cuda.Device().mem_info
        return int(free)

    def function(self, file: str, name: str, defines: Defines | None = None) -> Function:
        """Return kernel ``name`` of ``file``, compiled once for these ``defines``.

        Raises:
            DeviceError: it does not compile.
        """
        defines = defines or {}
        build = (file, tuple(sorted(defines.items())))
        if build not in self._functions:
            text = source(file, defines)
            module = compiled(self._cupy, text, f"the kernels of {file}")
            self._functions[build] = {
                kernel: Function(kernel, parameters, module.get_function(kernel))
                for kernel, parameters in signatures(text, defines).items()
            }
        return self._functions[build][name]

    def launch(
        self,
        function: Function,
        grid: Dim3,
        block: Dim3,
        args: Sequence[Argument],
        *,
        shared_bytes: int = 0,
    ) -> None:
        """Run ``function`` on ``grid`` × ``block``, after everything launched before."""
        check_launch(grid, block, shared_bytes)
        exact = exact_arguments(function, args, self.address)
        if shared_bytes > _SHARED_WITHOUT_ASKING:
            function.handle.max_dynamic_shared_size_bytes = shared_bytes
        values = tuple(_NULL if value is None else value for value in exact)
        function.handle(grid, block, values, shared_mem=shared_bytes)

    def beside(self, work: Callable[[], T]) -> T:
        """Do ``work`` on the second stream, after everything launched before."""
        if len(self._beside) == _BEHIND:
            self._meet_one()
        self._second.wait_event(self._stream.record(self._mark()))
        self._second.use()
        try:
            result = work()
        finally:
            self._stream.use()
        self._beside.append((work, self._second.record(self._mark())))
        return result

    def meet(self) -> None:
        """Let the first stream wait for all that was done ``beside``."""
        while self._beside:
            self._meet_one()

    def _meet_one(self) -> None:
        _kept, end = self._beside.popleft()
        self._stream.wait_event(end)

    def _mark(self) -> Any:
        """A mark in a stream, for which another stream can wait."""
        return self._cupy.cuda.Event(disable_timing=True)

    def empty(self, shape: tuple[int, ...], dtype: npt.DTypeLike = np.float32) -> Array:
        """Return an array of the GPU, its values undefined.

        Raises:
            DeviceError: the GPU's memory is full.
        """
        with _told_if_full():
            array: Array = self._cupy.empty(shape, dtype)
        return array

    def zeros(self, shape: tuple[int, ...], dtype: npt.DTypeLike = np.float32) -> Array:
        """Return an array of zeros of the GPU.

        Raises:
            DeviceError: the GPU's memory is full.
        """
        with _told_if_full():
            array: Array = self._cupy.zeros(shape, dtype)
        return array

    def constant(self, host: Array) -> Array:
        """Return an array of the GPU that holds ``host``; in a recording from its end on."""
        with self._cupy.cuda.using_allocator(self._cupy.get_default_memory_pool().malloc):
            array = self.empty(host.shape, host.dtype)
        if self._constants is None:
            self.upload(host, array)
        else:
            self._constants.append((host, array))
        return array

    def address(self, array: Array) -> int:
        """Return where ``array`` lies in the memory of the GPU."""
        return int(array.data.ptr)  # type: ignore[attr-defined]

    def upload(self, host: Array, into: Array) -> None:
        """Copy a host array into one of the GPU, after everything launched before."""
        into.set(np.ascontiguousarray(host, into.dtype))  # type: ignore[attr-defined]
        self._stream.synchronize()  # the host array may change or go now

    def download(self, array: Array) -> Callable[[], Array]:
        """Have ``array`` copied to the host, after everything launched before.

        What is returned waits for that, and gives the copy.
        """
        # A copy into memory that is not pinned would be waited for.
        pinned = self._cupy.cuda.alloc_pinned_memory(array.nbytes)
        host: Array = np.frombuffer(pinned, array.dtype, array.size).reshape(array.shape)
        array.get(stream=self._stream, out=host, blocking=False)  # type: ignore[attr-defined]
        copied = self._stream.record(self._event())

        def wait() -> Array:
            copied.synchronize()
            return host

        return wait

    def _event(self) -> Any:
        """A mark in the stream, for which the host can wait without burning a core."""
        return self._cupy.cuda.Event(block=True, disable_timing=True)

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        """Do ``work`` once, and return the launch of the CUDA graph that does the same again.

        Raises:
            DeviceError: the GPU's memory is full.
        """

        def whole() -> None:
            work()
            self.meet()

        self._empty_retired_pools()
        pool = self._cupy.cuda.MemoryPool(self._allocate)
        try:
            with _told_if_full():
                with self._cupy.cuda.using_allocator(pool.malloc):
                    whole()
                    self._stream.synchronize()
                    graph, constants = self._capture(whole)
                graph.upload(self._stream)
            for host, array in constants:
                self.upload(host, array)
        except BaseException:
            with suppress(Exception):  # the first error is the one to tell
                self.meet()
            self._beside.clear()
            self._retired.append(pool)
            raise
        replay = _Replay(graph, (pool, constants), self._stream, self._event)
        weakref.finalize(replay, self._retired.append, pool).atexit = False
        return replay

    def _empty_retired_pools(self) -> None:
        """Give back what is free in them; one in which an array lives on is asked again later."""
        for _ in range(len(self._retired)):
            pool = self._retired.popleft()
            pool.free_all_blocks()
            if pool.total_bytes():
                self._retired.append(pool)

    def _allocate(self, size: int) -> Any:
        """Memory for the pool of a recording.

        A pool that gets no more gives back what is free in it, and asks again. That must not be
        while a graph is written down, whose launches work there; before, the default pool follows.
        """
        cuda = self._cupy.cuda
        try:
            return cuda.MemoryPointer(cuda.Memory(size), 0)
        except cuda.runtime.CUDARuntimeError as error:
            if self._constants is not None:
                raise MemoryError(str(error)) from error
            self._cupy.get_default_memory_pool().free_all_blocks()
            raise

    def _capture(self, work: Callable[[], None]) -> tuple[Any, list[tuple[Array, Array]]]:
        """The graph of ``work``, and the constants that it reads."""
        constants = self._constants = []
        gc.collect()  # now: what goes during the recording may free memory of the GPU, and wait
        try:
            self._stream.begin_capture()
            work()
        except BaseException:
            with suppress(Exception):  # the first error is the one to tell
                self._stream.end_capture()
            raise
        finally:
            self._constants = None
        return self._stream.end_capture(), constants


@contextmanager
def _told_if_full() -> Iterator[None]:
    """Tell the user what to do when CuPy's pool, CUDA or its driver says "out of memory"."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if "out of memory" not in str(error).lower():
            raise
        raise DeviceError(
            "the memory of the GPU is too small for this",
            cause=str(error),
            remedy="a smaller --batch or --n, or --device cpu",
        ) from error


@final
class _Replay:
    """A graph and the memory it works in."""

    def __init__(self, graph: Any, memory: Any, stream: Any, event: Callable[[], Any]) -> None:
        self._graph, self._memory, self._stream, self._event = graph, memory, stream, event
        self._ends: deque[Any] = deque()  # events: of the launches that may be under way

    def __call__(self) -> None:
        """Launch it, not too far ahead of the GPU: who counts launches counts work that is done."""
        self._graph.launch(self._stream)
        self._ends.append(self._stream.record(self._event()))
        if len(self._ends) > AHEAD:
            self._ends.popleft().synchronize()
