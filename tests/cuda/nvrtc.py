"""NVIDIA's runtime compiler without a GPU, a driver or CuPy: does a kernel compile, and to what?"""

import ctypes
import hashlib
import importlib.util
import os
import re
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

# What CuPy passes too; the last one makes ptxas say what each kernel uses.
OPTIONS = [
    "--std=c++17",
    "-ftz=true",
    "--device-as-default-execution-space",
    "--ptxas-options=-v",
]


class CompileError(Exception):
    """A source does not compile, here or in the simulator: no result that a test may expect."""


class Usage(NamedTuple):
    """What one kernel takes of a multiprocessor."""

    registers: int
    spills: int  # bytes stored and loaded because registers ran out
    stack: int
    shared: int  # static, bytes


def _library():
    found = importlib.util.find_spec("nvidia.cuda_nvrtc") if _has("nvidia") else None
    if found is None:
        return None
    folder = Path(next(iter(found.submodule_search_locations)), "lib")
    paths = sorted(folder.glob("libnvrtc.so.*"))
    return ctypes.CDLL(str(paths[0])) if paths else None


def _has(package):
    return importlib.util.find_spec(package) is not None


LIBRARY = _library()
VERSION = version("nvidia-cuda-nvrtc-cu12") if LIBRARY else ""


def compile_cubin(text, arch, cache):
    """Return the cubin of a complete source for ``arch`` (``sm_80``), and each kernel's usage.

    What was compiled once, by this version of NVRTC, is taken from the folder ``cache``.
    """
    key = repr((VERSION, OPTIONS, arch, text)).encode()
    path = Path(cache, hashlib.sha256(key).hexdigest()[:24])
    if not path.exists():
        cubin, log = _compiled(text, arch)
        path.with_suffix(".log").write_text(log)
        _keep(path, cubin)
    return path.read_bytes(), _usages(path.with_suffix(".log").read_text())


def compile_ptx(text, cache):
    """Return the PTX of a complete source, from the folder ``cache`` if it was compiled before."""
    key = repr((VERSION, OPTIONS, text)).encode()
    path = Path(cache, hashlib.sha256(key).hexdigest()[:24])
    if not path.exists():
        ptx, _ = _compiled(text, "compute_80", "PTX")
        _keep(path, ptx.rstrip(b"\0"))
    return path.read_text()


def _keep(path, content):
    """Write all of a file or nothing: whoever finds it takes it for whole."""
    part = path.with_suffix(f".{os.getpid()}")
    part.write_bytes(content)
    part.replace(path)


def _compiled(text, arch, what="CUBIN"):
    program = ctypes.c_void_p()
    _check(LIBRARY.nvrtcCreateProgram(ctypes.byref(program), text.encode(), b"k.cu", 0, None, None))
    options = [f"-arch={arch}".encode(), *(option.encode() for option in OPTIONS)]
    failed = LIBRARY.nvrtcCompileProgram(
        program, len(options), (ctypes.c_char_p * len(options))(*options)
    )
    log = _bytes(program, "ProgramLog").rstrip(b"\0").decode()
    if failed:
        raise CompileError(f"{arch}: {log}")
    code = _bytes(program, what)
    _check(LIBRARY.nvrtcDestroyProgram(ctypes.byref(program)))
    return code, log


def _bytes(program, what):
    size = ctypes.c_size_t()
    _check(getattr(LIBRARY, f"nvrtcGet{what}Size")(program, ctypes.byref(size)))
    buffer = ctypes.create_string_buffer(size.value)
    _check(getattr(LIBRARY, f"nvrtcGet{what}")(program, buffer))
    return buffer.raw


def _check(result):
    if result:
        raise CompileError(f"NVRTC error {result}")


def _usages(log):
    usages = {}
    for name, text in re.findall(
        r"Compiling entry function '(\w+)'(.*?)(?=ptxas info\s+: Comp|\Z)", log, re.S
    ):

        def number(pattern, text=text):
            return sum(map(int, re.findall(pattern, text)))

        usages[name] = Usage(
            registers=number(r"Used (\d+) registers"),
            spills=number(r"(\d+) bytes spill"),
            stack=number(r"(\d+) bytes stack frame"),
            shared=number(r"(\d+) bytes smem"),
        )
    return usages
