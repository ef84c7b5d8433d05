"""The runtime of the tests on what NVRTC made of the kernels."""

import ctypes

import nvrtc
from ptx_to_cpp import to_cpp
from simulator import FLAGS, SimRuntime, build_library

from tinyddpm.kernels.cuda.source import signatures, source


class PtxRuntime(SimRuntime):
    """A ``Runtime`` on NumPy arrays that executes the PTX of the kernels."""

    def load(self, text, defines):
        parameters = signatures(text, defines)
        pointers = {name: [p.pointer for p in kernel] for name, kernel in parameters.items()}
        code = to_cpp(nvrtc.compile_ptx(text, self.cache), pointers)
        unit = "\n".join([source("prims.cuh", {}), '#include "ptx_sim.h"', code])
        flags = [*FLAGS, "-ffp-contract=off"]  # NVRTC has decided what is fused
        return build_library(unit, parameters, self.cache, flags), parameters

    def run(self, function, grid, block, exact, shared_bytes):
        """Launch with room for the arrays of shared memory of a known size, too."""
        library, _ = function.handle
        static = ctypes.c_size_t.in_dll(library, f"static_bytes_{function.name}").value
        super().run(function, grid, block, exact, shared_bytes + static)
