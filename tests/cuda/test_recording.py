"""A recorded piece of work does the same whenever it is launched, or there is none."""

import fake_cuda
import numpy as np
import pytest
from fake_cuda import Capture, Memory, MemoryPool

from tinyddpm.errors import DeviceError
from tinyddpm.kernels.cuda.runtime import AHEAD
from tinyddpm.training.kernel_choice import cuda_runtime

pytestmark = pytest.mark.cuda_sim


@pytest.fixture(params=["simulated", pytest.param("gpu", marks=pytest.mark.cuda)])
def runtime(request):
    """The runtime of CuPy, on its stand-in and on a real GPU."""
    if request.param == "gpu":
        return request.getfixturevalue("gpu")
    request.getfixturevalue("cupy")
    return cuda_runtime()


def test_a_constant_is_not_where_launches_before_it_work(runtime):
    host = np.arange(1000, dtype=np.float32)
    result = runtime.zeros(host.shape)

    def work():
        for _ in range(8):
            runtime.empty(host.shape).fill(np.nan)  # and its memory is free again
        constant = runtime.constant(host)
        result[...] = constant + 1

    replay = runtime.record(work)
    np.testing.assert_array_equal(runtime.download(result)(), host + 1)
    for _ in range(2):
        result.fill(0)
        replay()
        np.testing.assert_array_equal(runtime.download(result)(), host + 1)


def test_the_host_is_not_far_ahead_of_its_launches(cupy, monkeypatch):
    """Else a progress bar would be full while nearly all the work is to be done."""
    del cupy
    monkeypatch.setattr(fake_cuda.Event, "waited_for", 0)
    replay = cuda_runtime().record(lambda: None)
    for _ in range(30):
        replay()
    assert fake_cuda.Event.waited_for == 30 - AHEAD


@pytest.fixture
def work(cupy, monkeypatch):
    """Three arrays after one another, on a card that has room for as many as a test says."""
    del cupy
    monkeypatch.setattr(Memory, "room", float("inf"))
    runtime = cuda_runtime()
    return lambda: [runtime.empty((5,)) for _ in range(3)]


@pytest.mark.parametrize("room", [0, 1, 2])
def test_before_a_graph_is_written_down_memory_may_be_found(work, room):
    """What lies idle in a pool is given back, and then there is some."""
    Memory.room = room
    assert cuda_runtime().record(work)


@pytest.mark.parametrize("room", [3, 4, 5])
def test_no_graph_comes_of_memory_that_had_to_be_given_back(work, room):
    """The launches written down so far would work there, though it belongs to nobody."""
    Memory.room = room
    with pytest.raises(DeviceError, match="memory of the GPU is too small") as told:
        cuda_runtime().record(work)
    assert "out of memory" in told.value.cause
    assert "smaller --batch" in told.value.remedy
    assert Capture.nodes is None
    assert cuda_runtime().record(work)


def test_the_memory_of_recordings_that_are_gone_is_given_back(work):
    """Each preview of a long training is one."""
    runtime, before = cuda_runtime(), MemoryPool.taken
    runtime.record(work)
    once = MemoryPool.taken - before
    assert once > 0
    for _ in range(3):
        runtime.record(work)
        assert MemoryPool.taken - before == once
    kept = runtime.record(work)
    for _ in range(3):
        runtime.record(work)
        assert MemoryPool.taken - before == 2 * once
    kept()


def test_a_recording_that_fails_keeps_no_memory(work):
    runtime, before = cuda_runtime(), MemoryPool.taken

    def fails():
        work()
        if Capture.nodes is not None:
            raise ValueError

    for _ in range(3):
        with pytest.raises(ValueError):  # noqa: PT011
            runtime.record(fails)
    assert len(runtime._retired) == 1
    runtime.record(lambda: None)
    assert MemoryPool.taken == before


def test_a_pool_in_which_an_array_lives_on_is_asked_again(work):
    runtime = cuda_runtime()
    runtime.record(work)
    (pool,) = runtime._retired
    pool.in_use = 20
    kept = runtime.record(work)
    assert list(runtime._retired) == [pool]
    pool.in_use = 0
    kept = runtime.record(work), kept
    assert not runtime._retired
    assert kept


def test_a_full_card_is_told_and_other_errors_are_left_alone(cupy, monkeypatch):
    del cupy

    def full(_size):
        raise fake_cuda.CUDARuntimeError("cudaErrorMemoryAllocation: out of memory")

    with monkeypatch.context() as patch:
        patch.setattr(fake_cuda.DEFAULT_POOL, "allocator", full)
        with pytest.raises(DeviceError, match="Out of memory allocating 20 bytes"):
            cuda_runtime().empty((5,))

    def broken():
        raise RuntimeError("cudaErrorIllegalAddress")

    with pytest.raises(RuntimeError, match="IllegalAddress"):
        cuda_runtime().record(broken)
