"""The runtime of the tests: the package's kernels and launching code on NumPy arrays.

A kernel is compiled by the machine's C++ compiler against ``cuda_sim.h``. Arrays of ``empty`` have
NaN before and behind them, which a kernel may neither use nor overwrite.
"""

import ctypes
import hashlib
import os
import shutil
import subprocess
import tempfile
import weakref
from collections import deque
from pathlib import Path

import numpy as np
from builds import BUILDS
from host_memory import HostMemory
from nvrtc import CompileError

from tinyddpm.kernels.cuda.runtime import Function, check_launch, exact_arguments
from tinyddpm.kernels.cuda.source import signatures, source

HERE, PROCESSOR = Path(__file__).parent, Path("/proc/cpuinfo")
COMPILER = shutil.which("c++") or shutil.which("g++")
# Products and sums are fused, as by NVRTC for a card, where the machine can: by GCC in this pass.
FUSED = ["-ffp-contract=fast", "-fexpensive-optimizations"]
if PROCESSOR.exists() and " fma " in PROCESSOR.read_text():
    FUSED.append("-mfma")
# Warnings are not printed; of one, ptx_sim.h makes an error.
FLAGS = ["-std=c++17", "-O1", "-fPIC", "-shared", *FUSED]
MARGIN = 4096  # bytes of NaN on either side of an array: more than what a planted bug writes there
STACKS = np.empty((1024, 128 * 1024), np.uint8)  # of the threads of a block


def build_library(text, parameters, cache, flags=FLAGS):
    """The complete source ``text`` and a C function ``sim_NAME`` for each kernel, loaded."""
    code = "\n".join(['#include "cuda_sim.h"', text, *map(_entry, parameters, parameters.values())])
    parts = [code, *(path.read_text() for path in sorted(HERE.glob("*_sim.h"))), *flags]
    path = Path(cache) / f"{hashlib.sha256(''.join(parts).encode()).hexdigest()[:24]}.so"
    if not path.exists():
        with tempfile.TemporaryDirectory(dir=cache) as folder:
            unit = Path(folder, "kernels.cpp")
            unit.write_text(code)
            command = [COMPILER, *flags, "-I", HERE, unit, "-o", unit.with_suffix(".so")]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                raise CompileError(f"the simulator cannot compile this:\n{done.stderr}")
            os.replace(unit.with_suffix(".so"), path)
    library = ctypes.CDLL(str(path))
    library.sim_failure.restype = ctypes.c_char_p
    return library


def _entry(name, parameters):
    """A C function that runs kernel ``name``; each of ``args`` points to an array or a number."""
    cast = "".join(
        f"  auto a{i} = sim_cast<{i}>({name}, args[{i}]);\n" for i in range(len(parameters))
    )
    names = ", ".join(f"a{i}" for i in range(len(parameters)))
    return (
        f'extern "C" int sim_{name}(const unsigned* grid, const unsigned* block, size_t shared,\n'
        "    unsigned seed, int eager, char* stacks, void** args) {\n"
        f"{cast}"
        f"  auto kernel = [=] {{ {name}({names}); }};\n"
        "  return sim::launch(grid, block, shared, seed, eager, stacks, kernel);\n}"
    )


class SimRuntime(HostMemory):
    """A ``Runtime`` on NumPy arrays.

    Args:
        cache: where compiled kernels are kept.
        seed: of the order in which warps and lanes run.
        eager: asynchronous copies happen at once; otherwise when they are waited for.
    """

    def __init__(self, cache, *, seed=0, eager=False):
        self.cache, self.seed, self.eager = cache, seed, eager
        self.launches = 0
        self._libraries = {}
        self._guarded = deque()

    def function(self, file, name, defines=None):
        assert dict(defines or {}) in BUILDS[file], f"{file} with {defines} is not in builds.py"
        build = (file, tuple(sorted((defines or {}).items())))
        if build not in self._libraries:
            text = source(file, defines or {})
            self._libraries[build] = self.load(text, defines or {})
        library, parameters = self._libraries[build]
        return Function(name, parameters[name], (library, getattr(library, f"sim_{name}")))

    def load(self, text, defines):
        parameters = signatures(text, defines)
        return build_library(text, parameters, self.cache), parameters

    def function_of(self, text, name, defines=None):
        """Kernel ``name`` of a complete source that is in no file: a planted bug."""
        library, parameters = self.load(text, defines or {})
        return Function(name, parameters[name], (library, getattr(library, f"sim_{name}")))

    def launch(self, function, grid, block, args, *, shared_bytes=0):
        check_launch(grid, block, shared_bytes)
        exact = exact_arguments(function, args, self.address)
        self.run(function, grid, block, exact, shared_bytes)

    def run(self, function, grid, block, exact, shared_bytes):
        """Launch with arguments of the exact types."""
        self.launches += 1
        library, run = function.handle
        held = [np.array(v) if isinstance(v, np.generic) else v for v in exact]
        pointers = (ctypes.c_void_p * len(held))(
            *(None if v is None else v.ctypes.data for v in held)
        )
        sizes = [(ctypes.c_uint * 3)(*d, *(1,) * (3 - len(d))) for d in (grid, block)]
        seed = ctypes.c_uint((self.seed * 1_000_003 + self.launches) % 2**32)
        stacks = ctypes.c_void_p(STACKS.ctypes.data)
        if run(*sizes, ctypes.c_size_t(shared_bytes), seed, int(self.eager), stacks, pointers):
            raise AssertionError(f"{function.name}: {library.sim_failure().decode()}")
        self._check_margins(function.name)

    def empty(self, shape, dtype=np.float32):
        dtype = np.dtype(dtype)
        size = int(np.prod(shape)) * dtype.itemsize
        memory = np.full(size + 2 * MARGIN + 256, 0xFF, np.uint8)
        start = MARGIN + -(memory.ctypes.data + MARGIN) % 256
        array = memory[start : start + size].view(dtype).reshape(shape)
        self._guarded.append((weakref.ref(memory), start, start + size))
        return array

    def _check_margins(self, name):
        for _ in range(len(self._guarded)):
            guarded = self._guarded.popleft()
            memory = guarded[0]()
            if memory is None:
                continue
            before, behind = memory[: guarded[1]], memory[guarded[2] :]
            if not (before == 0xFF).all() or not (behind == 0xFF).all():
                raise AssertionError(f"{name} wrote outside of an array of {memory.size} bytes")
            self._guarded.append(guarded)
