"""The text of the kernels: own includes pasted in, constants defined, signatures read.

A kernel is found by its signature, which is written

    extern "C" __global__ void __launch_bounds__(THREADS) name(const float* ALIGNED x, int n)

with types of ``_C_TYPES`` (or constants that stand for one of them). ``ALIGNED`` asks for a
pointer divisible by 16, for loads of 16 bytes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Defines = Mapping[str, str | int]

_FOLDER = Path(__file__).parent
_INCLUDE = re.compile(r'^#include "([\w.]+)"\n', re.M)
_KERNEL = re.compile(
    r'extern "C" __global__ void\s+(?:__launch_bounds__\([^)]*\)\s*)?(\w+)\s*\(([^)]*)\)'
)
_C_TYPES: dict[str, npt.DTypeLike] = {
    "float": np.float32,
    "double": np.float64,
    "int": np.int32,
    "unsigned": np.uint32,
    "long long": np.int64,
    "unsigned long long": np.uint64,
    "unsigned char": np.uint8,
    "bf16": np.uint16,  # the bits; NumPy has no such types
    "tf32": np.uint32,
}


class Parameter(NamedTuple):
    """One parameter of a kernel."""

    name: str
    dtype: np.dtype[np.generic]  # its own, or of what it points to
    pointer: bool
    aligned: bool  # the pointer must be divisible by 16


def source(file: str, defines: Defines) -> str:
    """Return the text of ``file`` (such as ``silu.cu``), complete, behind its ``defines``.

    It is without the letters beyond ASCII of its comments: CuPy writes it to a file in the locale's
    encoding, which may not know them all.
    """
    constants = "".join(f"#define {name} {value}\n" for name, value in sorted(defines.items()))
    return (constants + _with_includes(file, set())).encode("ascii", "ignore").decode()


def _with_includes(file: str, pasted: set[str]) -> str:
    """Each file once, where it is first asked for."""
    if file in pasted:
        return ""
    pasted.add(file)
    text = (_FOLDER / file).read_text(encoding="utf-8")
    return _INCLUDE.sub(lambda found: _with_includes(found[1], pasted), text)


def signatures(text: str, defines: Defines) -> dict[str, list[Parameter]]:
    """Return the parameters of every kernel in ``text``, a complete source."""
    return {
        name: [_parameter(words, defines) for words in parameters.split(",")]
        for name, parameters in _KERNEL.findall(text)
    }


def _parameter(declaration: str, defines: Defines) -> Parameter:
    words = re.findall(r"\w+|\*", declaration)
    name, pointer, aligned = words[-1], "*" in words, "ALIGNED" in words
    ignored = {"const", "*", "ALIGNED", "__restrict__"}
    kind = " ".join(str(defines.get(word, word)) for word in words[:-1] if word not in ignored)
    if kind not in _C_TYPES:
        raise TypeError(f"parameter {declaration.strip()!r}: no kernel takes {kind!r}")
    return Parameter(name, np.dtype(_C_TYPES[kind]), pointer, aligned)
