"""Every kernel compiles for every architecture, and keeps its numbers in registers."""

import re
from pathlib import Path

import nvrtc
import pytest
from builds import BUILDS

import tinyddpm.kernels.cuda
from tinyddpm.kernels.cuda.runtime import SHARED_BYTES
from tinyddpm.kernels.cuda.source import signatures, source

pytestmark = pytest.mark.cuda_compile
FOLDER = Path(tinyddpm.kernels.cuda.__file__).parent
EVERY = [(file, defines) for file, builds in BUILDS.items() for defines in builds]


def name_of(build):
    file, defines = build
    return "-".join([file, *(str(v) for k, v in defines.items() if not k.startswith("STREAM"))])


@pytest.mark.parametrize("arch", ["sm_80", "sm_90"])
@pytest.mark.parametrize(("file", "defines"), EVERY, ids=map(name_of, EVERY))
def test_compiles_without_spills(compile_cubin, file, defines, arch):
    text = source(file, defines)
    cubin, usages = compile_cubin(text, arch)
    assert cubin.startswith(b"\x7fELF")
    assert usages.keys() == signatures(text, defines).keys() != set()
    for name, usage in usages.items():
        assert usage.spills == 0, name
        assert usage.stack == 0, name
        assert 0 < usage.registers <= 255, name
        assert usage.shared <= min(SHARED_BYTES, 48 * 1024), name


def test_every_source_is_compiled():
    assert {path.name for path in FOLDER.glob("*.cu")} == BUILDS.keys()


def test_inline_ptx_is_in_one_file():
    asm = re.compile(r"\basm\b.*\(")
    users = {path.name for path in FOLDER.glob("*.cu*") if asm.search(path.read_text())}
    assert users == {"prims.cuh"}


def test_only_comments_are_not_ascii():
    """The text is compiled without them (``source``)."""
    for path in FOLDER.glob("*.cu*"):
        assert re.sub("//.*", "", path.read_text(encoding="utf-8")).isascii(), path.name


def test_what_does_not_compile_is_told(compile_cubin):
    broken = source("silu.cu", {}).replace("int", "itn")
    with pytest.raises(nvrtc.CompileError, match="itn"):
        compile_cubin(broken, "sm_80")


def test_a_spill_would_be_seen(compile_cubin):
    """A kernel with 300 numbers alive at once, and room for 32."""
    text = """
extern "C" __global__ void __launch_bounds__(1024, 2) crowded(float* x) {
  float a[300];
  for (int i = 0; i < 300; i++) a[i] = x[i * 7 + threadIdx.x];
  __syncthreads();
  for (int i = 0; i < 300; i++) x[i] = a[299 - i] * a[i];
}"""
    _, usages = compile_cubin(text.replace("for (", '_Pragma("unroll") for ('), "sm_80")
    assert usages["crowded"].spills > 0 or usages["crowded"].stack > 0
