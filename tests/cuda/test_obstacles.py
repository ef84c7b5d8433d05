"""What keeps a GPU from being used: one message each, and the CPU instead for ``auto``."""

import sys
import types

import fake_cuda
import fake_cupy
import pytest

from tinyddpm.arrays import cuda_obstacle, gpu_failure, resolve_device
from tinyddpm.cli.main import main
from tinyddpm.errors import DeviceError
from tinyddpm.kernels.cuda import source
from tinyddpm.kernels.cuda.cupy_runtime import CupyRuntime


def cupy_with(monkeypatch, *, version="14.2.0", devices=1, capability="90", error=None):
    module = fake_cupy.make_module(None)
    module.__version__ = version

    def count():
        if error:
            raise fake_cuda.CUDARuntimeError(error)
        return devices

    module.cuda.runtime.getDeviceCount = count
    module.cuda.Device = lambda: types.SimpleNamespace(compute_capability=capability)
    monkeypatch.setitem(sys.modules, "cupy", module)


@pytest.mark.parametrize(
    ("machine", "obstacle"),
    [
        ({"error": "cudaErrorInsufficientDriver: too old"}, "CUDA driver: cudaErrorInsufficient"),
        ({"devices": 0}, "no CUDA device was found"),
        ({"version": "13.6.0"}, "CuPy 13.6.0 is too old: 14 is needed"),
        ({"capability": "75"}, "its compute capability is 7.5, and 8.0 is needed"),
    ],
)
def test_every_obstacle_is_told(monkeypatch, machine, obstacle):
    cupy_with(monkeypatch, **machine)
    assert obstacle in cuda_obstacle()
    assert resolve_device("auto") == "cpu"
    with pytest.raises(DeviceError) as refusal:
        resolve_device("cuda")
    assert obstacle in refusal.value.cause
    assert "--device cpu" in refusal.value.remedy


@pytest.mark.parametrize("capability", ["80", "90", "120"])
def test_cards_that_can_be_used(monkeypatch, capability):
    cupy_with(monkeypatch, capability=capability)
    assert resolve_device("auto") == resolve_device("cuda") == "cuda"


@pytest.mark.parametrize("failure", [RuntimeError("Failed to find CUDA headers"), ImportError()])
def test_a_cupy_that_cannot_compile_is_told(monkeypatch, failure):
    cupy_with(monkeypatch)

    def compile_nothing(_module):
        raise failure

    monkeypatch.setattr(fake_cupy._RawModule, "compile", compile_nothing)
    assert cuda_obstacle() == f"CuPy cannot compile a kernel: {str(failure) or 'ImportError'}"
    assert resolve_device("auto") == "cpu"


def test_no_cupy_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    assert "CuPy is not installed" in cuda_obstacle()


def test_what_an_installed_cupy_lacks_is_told(monkeypatch, tmp_path):
    (tmp_path / "cupy.py").write_text("import no_such_module\n")
    monkeypatch.delitem(sys.modules, "cupy", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    assert cuda_obstacle() == "CuPy lacks no_such_module"


def test_a_kernel_that_does_not_compile_is_told(monkeypatch):
    cupy_with(monkeypatch)
    monkeypatch.setattr(source, "_with_includes", lambda *_: "#error no such thing\n#error 2\n")
    with pytest.raises(
        DeviceError, match=r"kernels of silu\.cu\ncause: #error no such thing\ntry: "
    ):
        CupyRuntime().function("silu.cu", "silu")


def test_a_failed_recording_leaves_the_stream_usable(monkeypatch):
    cupy_with(monkeypatch)
    runtime, calls = CupyRuntime(), []

    def work():
        calls.append(fake_cuda.Capture.nodes is not None)
        if len(calls) == 2:
            raise MemoryError("no room")

    with pytest.raises(MemoryError, match="no room"):
        runtime.record(work)
    assert calls == [False, True]
    assert fake_cuda.Capture.nodes is None


@pytest.mark.parametrize("kind", [fake_cuda.CUDARuntimeError, fake_cuda.CUDADriverError])
def test_what_fails_on_a_card_is_one_error(monkeypatch, capsys, kind):
    cupy_with(monkeypatch)
    monkeypatch.setattr(sys, "argv", ["tinyddpm", "train"])

    def fails(*_, **__):
        raise kind("cudaErrorIllegalAddress: an illegal memory access was encountered")

    monkeypatch.setattr("tinyddpm.cli.train_plan.new", fails)
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert "error: the GPU failed in what it was told to do\ncause: cudaErrorIllegal" in said
    monkeypatch.setenv("CUDA_LAUNCH_BLOCKING", "1")
    with pytest.raises(kind):
        main()


def test_other_errors_at_run_time_are_bugs(monkeypatch):
    assert gpu_failure(RuntimeError("no such thing")) is None
    cupy_with(monkeypatch)
    assert gpu_failure(RuntimeError("no such thing")) is None
