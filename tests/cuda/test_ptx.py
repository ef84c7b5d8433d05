"""What NVRTC makes of the kernels runs, and what is wrong with it alone is found.

The other tests of this folder run it too, beside the sources, wherever a device is called ``ptx``.
"""

import numpy as np
import pytest
import simulator
import test_conv_planted

from tinyddpm.kernels.cuda.source import source

pytestmark = [pytest.mark.cuda_sim, pytest.mark.cuda_compile]

PRIMS = source("prims.cuh", {})


def run(ptx, body, *, threads=32, shared_bytes=0):
    """What a kernel of this body has written to y, a number for each thread."""
    text = f'{PRIMS}\nextern "C" __global__ void probe(float* y) {{ {body} }}'
    y = ptx.zeros((threads,))
    ptx.launch(ptx.function_of(text, "probe"), (1,), (threads,), (y,), shared_bytes=shared_bytes)
    return y


MINE = "int i = threadIdx.x;"


def test_arrays_of_shared_memory_lie_beside_one_another(ptx):
    body = """
    __shared__ unsigned char odd[3];
    __shared__ __align__(16) float fixed[32];
    DYNAMIC_SHARED(memory);
    float* rest = (float*)memory;
    if (i < 3) odd[i] = i;
    fixed[i] = i, rest[i] = 100 * i;
    __syncthreads();
    y[i] = fixed[31 - i] + rest[31 - i] + odd[i % 3];
    """
    i = np.arange(32)
    expected = 101 * (31 - i) + i % 3
    np.testing.assert_array_equal(run(ptx, MINE + body, shared_bytes=128), expected)


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        ("float4 x = *(float4*)(y + 1); y[i] = x.x + x.y + x.z + x.w;", "global memory is not al"),
        ("DYNAMIC_SHARED(m); *(float2*)(m + 4 + 8 * i) = {}; y[i] = m[5];", "shared memory is not"),
        ("__shared__ float x[32]; x[i + 65] = i; __syncthreads(); y[i] = x[i];", "outside"),
        ("DYNAMIC_SHARED(m); ((float*)m)[i - 1] = 0; y[i] = m[0];", "outside"),
        (
            "float c[4] = {}; unsigned a[4] = {}; if (i < 16) mma_bf16(c, a, a), y[i] = c[0];"
            " else mma_bf16(c, a, a), y[i] = c[1] + 1;",
            "different instructions",
        ),
        ("y[i] = __popc(i);", "ptx_popc_b32"),
    ],
    ids=["global", "shared", "behind", "before", "lanes apart", "unknown"],
)
def test_what_a_card_would_not_forgive_is_told(ptx, body, fault):
    with pytest.raises(AssertionError, match=fault):
        run(ptx, MINE + body, shared_bytes=256)


def test_numbers_too_small_are_zero(ptx):
    np.testing.assert_array_equal(run(ptx, MINE + "y[i] = exp2f(-120 - i);")[7:], 0)


# Bugs in the half of prims.cuh that no C++ compiler sees.
BUGS = {
    "A's fragments in another order": ("bf16", '"r"(a[1]), "r"(a[2])', '"r"(a[2]), "r"(a[1])'),
    "B's fragments in another order": ("tf32", '"r"(b[0]), "r"(b[1])', '"r"(b[1]), "r"(b[0])'),
    "sums in another order": ("bf16", '"{%0, %1, %2, %3}, {%4', '"{%0, %2, %1, %3}, {%4'),
    "what lies outside is copied": ("tf32", "16, %2;", "16;"),
    "a generic address": ("bf16", "(unsigned)__cvta_generic_to_shared(p)", "(unsigned)(size_t)p"),
    "no transpose": ("bf16", "x4.trans.shared", "x4.shared"),
}


@pytest.mark.parametrize("bug", BUGS)
def test_a_bug_of_the_inline_ptx_is_found(ptx, monkeypatch, bug):
    precision, right, wrong = BUGS[bug]
    whole, places = simulator.source, []

    def planted(file, defines):
        text = whole(file, defines)
        places.append(right in text)
        return text.replace(right, wrong)

    monkeypatch.setattr(simulator, "source", planted)
    assert test_conv_planted.finds_fault(ptx, precision)
    assert any(places)
