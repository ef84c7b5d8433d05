"""What NVRTC makes of the kernels runs, and what is wrong with it alone is found.

The other tests of this folder run it too, beside the sources, wherever a device is called ``ptx``.
"""

import numpy as np
import nvrtc
import pytest

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
    ],
    ids=["global", "shared", "behind", "before", "lanes apart"],
)
def test_what_a_card_would_not_forgive_is_told(ptx, body, fault):
    with pytest.raises(AssertionError, match=fault):
        run(ptx, MINE + body, shared_bytes=256)


def test_an_unknown_instruction_is_told(ptx):
    with pytest.raises(nvrtc.CompileError, match="ptx_popc_b32"):
        run(ptx, MINE + "y[i] = __popc(i);")


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("y[i] = exp2f(-120 - i);", lambda i: np.where(i < 7, 2.0 ** (-120 - i), 0)),
        (
            "y[i] = __uint_as_float(i << 22) * 0x1p126f;",
            lambda i: np.where(i < 2, 0, of_bits(i << 22)),
        ),
        ("y[i] = 2 + (__uint_as_float(i << 22) > 0.0f);", lambda i: np.where(i < 2, 2, 3)),
    ],
    ids=["a power", "a factor", "compared"],
)
def test_numbers_below_the_smallest_normal_one_are_zero(ptx, body, expected):
    np.testing.assert_array_equal(run(ptx, MINE + body), expected(np.arange(32)))


def of_bits(i):
    """Floats of these bits, times 2^126."""
    return i.astype(np.uint32).view(np.float32) * np.float32(2.0**126)
