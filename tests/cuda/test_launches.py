"""A step of a small network takes as long as its launches do: they are counted, and kept few."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from host_memory import HostMemory

from tinyddpm.data.dataset import Dataset
from tinyddpm.kernels.cuda.runtime import Function, check_launch, exact_arguments
from tinyddpm.kernels.cuda.source import signatures, source
from tinyddpm.training.config import recipe
from tinyddpm.training.device_step import DeviceTrainer

BUDGET = {"fp32": 305, "tf32": 316, "bf16": 316}  # of mnist


class Counting(HostMemory):
    """A ``Runtime`` that checks its launches and counts them, and does nothing else but to count
    what is done to its arrays without it, for which CuPy launches kernels, too.
    """

    def __init__(self):
        self.launches = Counter()
        outer = self

        class Counted(np.ndarray):
            def __array_ufunc__(self, ufunc, method, *inputs, **options):
                outer.launches[ufunc.__name__] += 1
                plain = [np.asarray(x) for x in inputs]
                return getattr(ufunc, method)(*plain, **options).view(Counted)

        self.counted = Counted

    def function(self, file, name, defines=None):
        defines = defines or {}
        return Function(name, signatures(source(file, defines), defines)[name], None)

    def launch(self, function, grid, block, args, *, shared_bytes=0):
        check_launch(grid, block, shared_bytes)
        exact_arguments(function, args, self.address)
        self.launches[function.name] += 1

    def empty(self, shape, dtype=np.float32):
        memory = np.zeros(int(np.prod(shape)) * np.dtype(dtype).itemsize + 16, np.uint8)
        start = -memory.ctypes.data % 16
        array = memory[start : len(memory) - 16 + start].view(dtype).reshape(shape)
        return array.view(self.counted)

    def record(self, work):
        work()
        self.launches.clear()  # what is recorded is done once more
        work()
        return work


@pytest.mark.cuda_sim
@pytest.mark.parametrize("precision", BUDGET)
def test_a_step_of_mnist(precision):
    runtime, dataset = Counting(), Dataset("zeros", np.zeros((256, 28, 28, 1), np.uint8))
    config = replace(recipe("mnist", "mnist"), batch=128)
    trainer = DeviceTrainer(config, dataset, runtime, precision)
    assert list(trainer.advance(1)) == []
    assert runtime.launches.total() <= BUDGET[precision], runtime.launches
    assert runtime.launches["gather"] == runtime.launches["pack_weights"] == 1
