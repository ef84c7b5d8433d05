"""The simulated device, and what stands in for one where there is no compiler."""

import sys

import fake_cupy
import nvrtc
import pytest
import simulator
from host_arrays import HostArrays
from ptx_simulator import PtxRuntime
from simulator import COMPILER, SimRuntime

from tinyddpm.arrays import cuda_obstacle
from tinyddpm.training.kernel_choice import cuda_runtime, the_runtime

NO_NVRTC = "no NVRTC: pip install nvidia-cuda-nvrtc-cu12"


@pytest.fixture
def sim(request):
    """A simulated GPU whose asynchronous copies arrive as late as they may."""
    return _simulated(request, eager=False)


@pytest.fixture(params=["eager", "late"])
def sim_both(request):
    """A simulated GPU with either behaviour of asynchronous copies: for kernels that use them."""
    return _simulated(request, eager=request.param == "eager")


@pytest.fixture
def gpu():
    """A real GPU."""
    if obstacle := cuda_obstacle():
        pytest.skip(obstacle)
    return cuda_runtime()


@pytest.fixture
def ptx(request):
    """A simulated GPU that executes what NVRTC makes of the kernels."""
    if nvrtc.LIBRARY is None:
        pytest.skip(NO_NVRTC)
    return _simulated(request, eager=False, runtime=PtxRuntime)


PTX = pytest.param("ptx", marks=pytest.mark.cuda_compile)
REAL = pytest.param("gpu", marks=pytest.mark.cuda)


@pytest.fixture(params=["simulated", PTX, REAL])
def card(request):
    """Simulated GPUs, of the sources and of their PTX, and a real one to which NumPy's arrays are
    taken for every launch.
    """
    if request.param == "gpu":
        return HostArrays(request.getfixturevalue("gpu"))
    if request.param == "ptx":
        return request.getfixturevalue("ptx")
    return _simulated(request, eager=False)


@pytest.fixture(params=["eager", "late", PTX, REAL])
def device(request):
    """Simulated GPUs, whose copies are early or late, one that executes PTX, and a real one."""
    if request.param in ("ptx", "gpu"):
        return request.getfixturevalue(request.param)
    return _simulated(request, eager=request.param == "eager")


def _simulated(request, *, eager, runtime=SimRuntime):
    if COMPILER is None:
        pytest.skip("no C++ compiler to simulate CUDA with")
    return runtime(request.config.cache.mkdir("cuda_sim"), eager=eager)


@pytest.fixture
def plant(monkeypatch):
    """A function that puts a bug into the sources of the kernels, in the place of what is right."""
    whole, places = simulator.source, []

    def planted(right, wrong):
        def source(file, defines):
            text = whole(file, defines)
            places.append(right in text)
            return text.replace(right, wrong)

        monkeypatch.setattr(simulator, "source", source)

    yield planted
    assert any(places)


@pytest.fixture
def cupy(request, monkeypatch):
    """A CuPy in whose place ``sim`` or another device computes, for everyone who imports it."""
    device = request.getfixturevalue(getattr(request, "param", "sim"))
    module = fake_cupy.make_module(device)
    monkeypatch.setitem(sys.modules, "cupy", module)
    the_runtime.cache_clear()
    yield module
    the_runtime.cache_clear()


@pytest.fixture(params=["cupy", pytest.param("gpu", marks=pytest.mark.cuda)])
def tolerance(request):
    """How near the host's what CuPy computes must come: the simulator in its place, or a GPU."""
    request.getfixturevalue(request.param)
    return {"cupy": 1e-6, "gpu": 1e-4}[request.param]


@pytest.fixture(scope="session")
def compile_cubin(request):
    """``nvrtc.compile_cubin``, which keeps what it compiled."""
    if nvrtc.LIBRARY is None:
        pytest.skip(NO_NVRTC)
    cache = request.config.cache.mkdir("cuda_compile")
    return lambda text, arch: nvrtc.compile_cubin(text, arch, cache)
