"""What is done beside the rest comes after what was before it, and is there when both have met."""

import gc
import weakref

import numpy as np
import pytest
from conv_twins import integers

from tinyddpm.arrays import to_host
from tinyddpm.kernels.cuda import cupy_runtime
from tinyddpm.kernels.cuda.cupy_runtime import CupyRuntime
from tinyddpm.kernels.cuda.partial_sums import AtOnce, AtTheEnd, InParts, summed
from tinyddpm.training.kernel_choice import cuda_runtime

pytestmark = pytest.mark.cuda_sim

PARTS = integers(0, 40, 70)
SUMS = PARTS.sum(axis=0)


@pytest.fixture(params=["simulated", pytest.param("gpu", marks=pytest.mark.cuda)])
def runtime(request):
    """The runtime of CuPy, on its stand-in and on a real GPU."""
    if request.param == "gpu":
        return request.getfixturevalue("gpu")
    request.getfixturevalue("cupy")
    return cuda_runtime()


@pytest.fixture
def simulated(cupy):
    del cupy
    return cuda_runtime()


def there(runtime, host):
    array = runtime.empty(host.shape)
    runtime.upload(host, array)
    return array


def summed_beside(runtime, parts):
    return runtime.beside(lambda: summed(runtime, parts))


def test_what_came_before_is_there_and_the_sum_when_both_have_met(runtime):
    parts = there(runtime, PARTS)
    twice = [parts + parts for _ in range(5)]
    sums = [summed_beside(runtime, both) for both in twice]
    runtime.meet()
    for array in sums:
        np.testing.assert_array_equal(to_host(array), 2 * SUMS)


def test_it_is_part_of_what_is_recorded(runtime):
    """Also where nobody met: a graph ends when all of it has."""
    parts, sums = there(runtime, PARTS), runtime.zeros(SUMS.shape)

    def work():
        once = summed_beside(runtime, parts)
        runtime.meet()
        sums[...] = once
        summed_beside(runtime, parts)

    replay = runtime.record(work)
    runtime.upload(2 * PARTS, parts)
    replay()
    np.testing.assert_array_equal(runtime.download(sums)(), 2 * SUMS)


def test_what_it_reads_is_kept_until_both_have_met(runtime, monkeypatch):
    monkeypatch.setattr(cupy_runtime, "_BEHIND", 2)
    kept = []
    for _ in range(4):
        parts = there(runtime, PARTS)
        kept.append(weakref.ref(parts))
        summed_beside(runtime, parts)
        del parts
    gc.collect()
    assert [ref() is None for ref in kept] == [True, True, False, False]
    runtime.meet()
    assert [ref() is None for ref in kept] == [True] * 4


def test_after_a_failure_beside_launches_are_in_order_again(runtime):
    def fails():
        raise ValueError

    parts, sums = there(runtime, PARTS), runtime.zeros(SUMS.shape)

    def work():
        summed_beside(runtime, parts)
        runtime.beside(fails)

    with pytest.raises(ValueError):  # noqa: PT011
        runtime.record(work)
    sums[...] = summed(runtime, parts)
    np.testing.assert_array_equal(to_host(sums), SUMS)
    runtime.record(lambda: summed_beside(runtime, parts))()


def test_a_gradient_is_formed_beside_only_where_it_may_wait(runtime, monkeypatch):
    asked = []
    beside = CupyRuntime.beside
    monkeypatch.setattr(
        CupyRuntime, "beside", lambda self, work: asked.append(work) or beside(self, work)
    )
    parts = there(runtime, PARTS)
    np.testing.assert_array_equal(to_host(AtOnce(runtime).product(lambda: parts)), SUMS)
    assert not asked
    waiting = AtTheEnd(runtime).product(lambda: parts)
    assert isinstance(waiting, InParts)
    assert len(asked) == 1
    runtime.meet()


class TestTheStandIn:
    """It does what is beside as late as may be, and finds what a card might do wrongly."""

    def test_reading_before_both_have_met_is_too_early(self, simulated):
        sums = summed_beside(simulated, there(simulated, PARTS))
        assert not (sums.memory == SUMS).any()
        simulated.meet()
        assert (sums.memory == SUMS).all()

    def test_writing_what_is_read_is_too_early(self, simulated):
        parts = there(simulated, PARTS)
        sums = summed_beside(simulated, parts)
        parts.fill(9)
        simulated.meet()
        assert (sums.memory == 9 * len(PARTS)).all()

    def test_memory_that_is_not_kept_is_missed(self, simulated):
        summed_beside(simulated, there(simulated, PARTS))
        work, end = simulated._beside.pop()
        del work
        simulated._beside.append((None, end))
        with pytest.raises(AssertionError, match="given back too early"):
            simulated.meet()

    def test_a_graph_that_does_not_wait_is_refused(self, simulated, monkeypatch):
        parts = there(simulated, PARTS)
        monkeypatch.setattr(CupyRuntime, "meet", lambda _: None)
        with pytest.raises(RuntimeError, match="Unjoined"):
            simulated.record(lambda: summed_beside(simulated, parts))

    def test_work_that_no_graph_was_told_to_begin_is_refused(self, simulated, monkeypatch):
        parts = there(simulated, PARTS)
        simulated.record(lambda: summed_beside(simulated, parts))
        monkeypatch.setattr(type(simulated._second), "wait_event", lambda *_: None)
        with pytest.raises(AssertionError, match="the graph would do without this"):
            simulated.record(lambda: summed_beside(simulated, parts))
