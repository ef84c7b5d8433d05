"""Bugs planted in the sources of the products, each of which the comparison must find.

Some show only if asynchronous copies arrive late, others only if they arrive at once: a bug counts
as found if either device finds it.
"""

import numpy as np
import pytest
import simulator
from conv_twins import convolution, dense, integers, onto

from tinyddpm.kernels.cuda import operands, products

pytestmark = pytest.mark.cuda_sim

BUGS = {
    "no barrier": ("bf16", "__syncthreads();         // everyone's is", "// everyone's is"),
    "waits for one group too few": ("bf16", "copy_wait<STAGES - 2>", "copy_wait<STAGES - 1>"),
    "no empty groups": (
        "tf32",
        "next % STAGES);\n    copy_commit();",
        "next % STAGES), copy_commit();",
    ),
    "fills the buffer in use": ("bf16", "copy(next, next % STAGES)", "copy(next, chunk % STAGES)"),
    "columns of padding are read": (
        "bf16",
        " & ((unsigned)x < (unsigned)g.source_w)",
        " & (x < g.source_w)",
    ),
    "a row of padding is read": (
        "tf32",
        "(unsigned)y < (unsigned)g.source_h",
        "(unsigned)y <= (unsigned)g.source_h",
    ),
    "the end of K is not zeroed": ("bf16", "in_k & (n < c_out)", "n < c_out"),
    "a tap is lost in a phase": (
        "bf16",
        "(taps - tap + stride - 1) / stride",
        "(taps - tap) / stride",
    ),
    "taps of the transpose in order": ("fp32", "(phase + before - tap) / stride, -1,", "0, 1,"),
    "no carry between rows": ("tf32", "r.y + by.y + over_x", "r.y + by.y"),
    "the last pixels are in no part": (
        "bf16",
        "(chunks + gridDim.z - 1) / gridDim.z",
        "chunks / gridDim.z",
    ),
    "the last part is not added": ("fp32", "p < parts;", "p < parts - 1;"),
    "bias of the neighbour": ("bf16", "r.image, n, c_out", "r.image, n0, c_out"),
    "bias of the first image": ("tf32", "bias + to_next_bias * (size_t)r.image", "bias"),
    "bias of the first image, in float32": ("fp32", "to_next_bias * (size_t)r.image", "0"),
    "residual of the first pixel": ("bf16", "residual + to_next_residual * pixel", "residual"),
    "residual of the first pixel, in float32": ("fp32", "to_next_residual * pixel", "0"),
    "a residual for each pixel": ("tf32", "to_next_residual * pixel", "c_out * pixel"),
    "sums of an image go on into the next": ("bf16", "+ slab, end);", "+ slab, images * rows);"),
    "sums of all images begin with the first": (
        "tf32",
        "int row = image * rows + first + threadIdx.y",
        "int row = first + threadIdx.y",
    ),
    "overwrites what others still read": (
        "fp32",
        "multiply(sums, a, b);\n    __syncthreads();",
        "multiply(sums, a, b);",
    ),
    "every run of channels is the first": ("bf16", "k.channel += run, k.end", "k.end"),
    "a run of channels without its end": ("tf32", "run, k.end += run;", "run;"),
    "the taps of the last run go on": ("bf16", " || k.end >= c_in", ""),
    "every run of gradients is the first": (
        "tf32",
        "m / (taps * run) * run + of_run % run",
        "of_run % run",
    ),
    "gradients of no channel are written": ("bf16", "if (w.channel >= channels_in) return;", ""),
    "pieces are read where they were not put": ("bf16", "of_b ^ 32 * step", "of_b + 32 * step"),
    "odd channels read past their end": (
        "bf16",
        "channel + e < c ? row[channel + e] : 0.0f",
        "row[channel + e]",
    ),
}


@pytest.fixture
def many_parts(monkeypatch):
    """Sums over pixels in several parts, and images in several slabs."""
    monkeypatch.setattr(products, "_PART", 40)
    monkeypatch.setattr(operands, "_SLAB_OF_IMAGE", 640)


@pytest.mark.usefixtures("many_parts")
@pytest.mark.parametrize("bug", BUGS)
def test_planted_bug_is_found(request, plant, bug):
    precision, *change = BUGS[bug]
    plant(*change)
    cache = request.config.cache.mkdir("cuda_sim")
    devices = [simulator.SimRuntime(cache, eager=eager) for eager in (False, True)]
    assert any(finds_fault(device, precision) for device in devices)


# Bugs in the half of prims.cuh that no C++ compiler sees.
BUGS_IN_PTX = {
    "A's fragments in another order": ("bf16", '"r"(a[1]), "r"(a[2])', '"r"(a[2]), "r"(a[1])'),
    "B's fragments in another order": ("tf32", '"r"(b[0]), "r"(b[1])', '"r"(b[1]), "r"(b[0])'),
    "sums in another order": ("bf16", '"{%0, %1, %2, %3}, {%4', '"{%0, %2, %1, %3}, {%4'),
    "half of a piece is copied": ("tf32", '"r"(bytes)', '"r"(bytes / 2)'),
    "a generic address": ("bf16", "(unsigned)__cvta_generic_to_shared(p)", "(unsigned)(size_t)p"),
    "no transpose": ("bf16", "x4.trans.shared", "x4.shared"),
}


@pytest.mark.usefixtures("many_parts")
@pytest.mark.cuda_compile
@pytest.mark.parametrize("bug", BUGS_IN_PTX)
def test_a_bug_of_the_inline_ptx_is_found(ptx, plant, bug):
    precision, *change = BUGS_IN_PTX[bug]
    plant(*change)
    assert finds_fault(ptx, precision)


def finds_fault(device, precision):
    """Whether a convolution of stride 1 or 2, or a dense layer, raises or has a wrong result."""
    shapes = [(2, 9, 7, 37), (3, 3, 37, 40), (40,)]
    shapes_onto = [*shapes[:2], (2, 40), (2, 9, 7, 40)]
    in_runs = [(1, 4, 5, 64), (3, 3, 64, 32), (32,)]
    try:
        pairs = [
            *convolution(device, precision).results(shapes, integers),
            *convolution(device, precision).results(shapes, integers, stride=2),
            *convolution(device, precision).results(in_runs, integers),
            *onto(device, precision).results(shapes_onto, integers),
            *dense(device, precision).results([(9, 37), (37, 40), (40,), (40,)], integers),
        ]
        for result, exact in pairs:
            np.testing.assert_array_equal(result, exact)
    except AssertionError:
        return True
    return False


@pytest.mark.usefixtures("many_parts")
@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16"])
def test_nothing_is_found_where_nothing_is_planted(device, precision):
    assert not finds_fault(device, precision)
