"""A real GPU for tests that are written for the simulated one, whose arrays are NumPy's."""

import numpy as np
from host_memory import HostMemory

from tinyddpm.kernels.cuda.runtime import Function
from tinyddpm.kernels.cuda.source import signatures


class HostArrays(HostMemory):
    """A ``Runtime`` on NumPy arrays: for every launch they are taken to the GPU, and back.

    So a kernel may only work on what it is passed, and not on what a table tells it to.
    """

    def __init__(self, gpu):
        import cupy  # noqa: PLC0415  an optional extra

        self._gpu, self._cupy = gpu, cupy
        self.function = gpu.function

    def function_of(self, text, name):
        """Kernel ``name`` of a complete source that is in no file."""
        handle = self._cupy.RawModule(code=text).get_function(name)
        return Function(name, signatures(text, {})[name], handle)

    def launch(self, function, grid, block, args, *, shared_bytes=0):
        arrays = {id(arg): arg for arg in args if isinstance(arg, np.ndarray)}
        taken = {key: self._cupy.asarray(array) for key, array in arrays.items()}
        there = [taken.get(id(arg), arg) for arg in args]
        self._gpu.launch(function, grid, block, there, shared_bytes=shared_bytes)
        for key, array in arrays.items():
            if array.flags.writeable:
                array[...] = self._cupy.asnumpy(taken[key])

    def empty(self, shape, dtype=np.float32):
        memory = np.full(int(np.prod(shape)) * np.dtype(dtype).itemsize, 0xFF, np.uint8)
        return memory.view(dtype).reshape(shape)
