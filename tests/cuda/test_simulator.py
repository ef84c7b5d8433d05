"""The simulator computes what CUDA defines, and finds the bugs that CUDA would not tell."""

import numpy as np
import pytest

from tinyddpm.kernels.cuda.source import source

pytestmark = pytest.mark.cuda_sim

PRIMS = source("prims.cuh", {})

REVERSED = (
    PRIMS
    + """
extern "C" __global__ void __launch_bounds__(128)
reversed(const float* ALIGNED x, float* y, int n) {
  __shared__ __align__(16) float tile[128];
  for (int start = 0; start < n; start += 128) {
    if (threadIdx.x < 32) copy_async_16(tile + 4 * threadIdx.x, x + start + 4 * threadIdx.x, 16);
    copy_commit();
    copy_wait<0>();
    __syncthreads();
    y[start + threadIdx.x] = tile[127 - threadIdx.x];
    __syncthreads();
  }
}
"""
)


def reverse(sim, text, n=512, out=None):
    x, y = sim.empty((n,)), sim.empty((n,)) if out is None else out
    x[...] = np.arange(n)
    sim.launch(sim.function_of(text, "reversed"), (1,), (128,), (x, y, n))
    return y


def right(n=512):
    return np.arange(n, dtype=np.float32).reshape(-1, 128)[:, ::-1].reshape(-1)


def test_a_right_kernel_is_right(sim_both):
    np.testing.assert_array_equal(reverse(sim_both, REVERSED), right())


def without(text, line, nth):
    parts = text.split(line)
    return line.join(parts[: nth + 1]) + line.join(parts[nth + 1 :])


BARRIER = "    __syncthreads();\n"


@pytest.mark.parametrize("nth", [0, 1], ids=["before reading", "before overwriting"])
def test_a_missing_barrier_shows(request, sim, nth):
    """In one of the two behaviours of copies at least."""
    racing = without(REVERSED, BARRIER, nth)
    assert racing.count(BARRIER) == REVERSED.count(BARRIER) - 1
    found = []
    for sim.eager in (False, True):
        found.append(not np.array_equal(reverse(sim, racing), right()))
    assert any(found), request.node.name


def test_a_missing_wait_shows(sim):
    wrong = reverse(sim, REVERSED.replace("    copy_wait<0>();\n", ""))
    assert not np.array_equal(wrong, right())


def test_shared_memory_begins_as_garbage_in_every_block(sim):
    text = (
        PRIMS
        + """
extern "C" __global__ void look(unsigned* y) {
  __shared__ unsigned fixed;
  DYNAMIC_SHARED(memory);
  y[2 * blockIdx.x] = fixed;
  y[2 * blockIdx.x + 1] = *(unsigned*)memory;
  fixed = *(unsigned*)memory = 7;
}
"""
    )
    y = sim.empty((6,), np.uint32)
    sim.launch(sim.function_of(text, "look"), (3,), (1,), (y,), shared_bytes=4)
    np.testing.assert_array_equal(y, 0xCDCDCDCD)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("if (threadIdx.x < 32) __syncthreads();", "__syncthreads that not all"),
        ("if (threadIdx.x % 2) y[0] = warp_sum(y[0]);", "not all 32 lanes"),
        ("y[n + threadIdx.x] = 1;", "wrote outside"),
        ("y[-1] = 1;", "wrote outside"),
        ("copy_async_16(y, y + 1, 16);", "not aligned"),
        ("__shfl_xor_sync(0xffu, 1.0f, 1);", "less than a whole warp"),
    ],
)
def test_what_is_undefined_is_an_error(sim, body, message):
    text = PRIMS + f'extern "C" __global__ void bad(float* y, int n) {{ {body} }}\n'
    y = sim.zeros((64,))
    with pytest.raises(AssertionError, match=message):
        sim.launch(sim.function_of(text, "bad"), (1,), (64,), (y, y.size))


def test_reading_outside_gives_nan(sim):
    text = (
        PRIMS + 'extern "C" __global__ void beyond(const float* x, float* y) { *y = x[-1] + x[4]; }'
    )
    x, y = sim.zeros((4,)), sim.zeros((1,))
    sim.launch(sim.function_of(text, "beyond"), (1,), (1,), (x, y))
    assert np.isnan(y[0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x, y: (x.astype(np.float64), y, 512), "x must be float32"),
        (lambda x, y: (x, y[::2], 512), "y must be contiguous"),
        (lambda x, y: (x[1:], y, 512), "x must be aligned"),
        (lambda x, y: (x, y, 512.0), "n must be a number: got float"),
        (lambda x, y: (x, y), "takes 3 arguments"),
    ],
)
def test_arguments_are_checked(sim, change, message):
    x, y = sim.zeros((512,)), sim.zeros((512,))
    function = sim.function_of(REVERSED, "reversed")
    with pytest.raises(TypeError, match=message):
        sim.launch(function, (1,), (128,), change(x, y))


@pytest.mark.parametrize(
    ("grid", "block", "shared_bytes"),
    [((0,), (32,), 0), ((1, 65536), (32,), 0), ((1,), (2048,), 0), ((1,), (32,), 200_000)],
)
def test_launches_beyond_a_card_are_refused(sim, grid, block, shared_bytes):
    x = sim.zeros((512,))
    function = sim.function_of(REVERSED, "reversed")
    with pytest.raises(ValueError, match="beyond a card's limits"):
        sim.launch(function, grid, block, (x, x, 0), shared_bytes=shared_bytes)


PRODUCTS = (
    PRIMS
    + """
extern "C" __global__ void __launch_bounds__(32)
products(const bf16* a, const bf16* b, const float* at, const float* bt, float* c, float* ct) {
  __shared__ __align__(16) bf16 A[256], B[128];
  int l = threadIdx.x, g = l / 4, q = l % 4;
  for (int i = l; i < 256; i += 32) A[i] = a[i];
  for (int i = l; i < 128; i += 32) B[i] = b[i];
  __syncthreads();
  unsigned fa[4], fb[4];
  load_matrices(fa, A + l % 16 * 16 + 8 * (l / 16));
  load_matrices_transposed(fb, B + l % 16 * 8);
  float sum[4] = {0, 0, 0, 0}, sum_t[4] = {0, 0, 0, 0};
  mma_bf16(sum, fa, fb);
  unsigned ta[4] = {to_tf32(at[g * 8 + q]), to_tf32(at[(g + 8) * 8 + q]),
                    to_tf32(at[g * 8 + q + 4]), to_tf32(at[(g + 8) * 8 + q + 4])};
  unsigned tb[2] = {to_tf32(bt[q * 8 + g]), to_tf32(bt[(q + 4) * 8 + g])};
  mma_tf32(sum_t, ta, tb);
  for (int i = 0; i < 4; i++) {
    int at = (g + 8 * (i / 2)) * 8 + 2 * q + i % 2;
    c[at] = sum[i];
    ct[at] = sum_t[i];
  }
}
"""
)


def bf16(x):
    return (x.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)


def from_bf16(bits):
    return (bits.astype(np.uint32) << 16).view(np.float32)


def test_tensor_core_twins_are_matrix_products(sim):
    random = np.random.default_rng(0)
    a, b = bf16(random.standard_normal((16, 16))), bf16(random.standard_normal((16, 8)))
    at = random.standard_normal((16, 8)).astype(np.float32)
    bt = random.standard_normal((8, 8)).astype(np.float32)
    c, ct = sim.empty((16, 8)), sim.empty((16, 8))
    sim.launch(sim.function_of(PRODUCTS, "products"), (1,), (32,), (a, b, at, bt, c, ct))
    np.testing.assert_allclose(c, from_bf16(a) @ from_bf16(b), atol=1e-5)
    np.testing.assert_allclose(ct, at @ bt, atol=2 * 8 * 2.0**-11 * np.abs(at).max())
    assert np.abs(ct - at @ bt).max() > 1e-5  # 10 bits of fraction, not 23


ROUNDING = (
    PRIMS
    + """
extern "C" __global__ void both(const float* x, float* b, float* t) {
  int i = threadIdx.x;
  b[i] = __uint_as_float((unsigned)to_bf16(x[i]) << 16);
  t[i] = __uint_as_float(to_tf32(x[i]));
}
"""
)


def test_conversions_round_to_nearest(sim):
    one, unit7, unit10 = 1.0, 2.0**-7, 2.0**-10
    x = np.array(
        [
            *(one + unit7 / 2, one + 3 * unit7 / 2, one + 0.51 * unit7, -one - 0.49 * unit7),
            *(one + unit10 / 2, one + 0.49 * unit10, np.inf, np.nan),
        ],
        np.float32,
    )
    b, t = sim.empty((8,)), sim.empty((8,))
    sim.launch(sim.function_of(ROUNDING, "both"), (1,), (8,), (x, b, t))
    to_even = [one, one + 2 * unit7, one + unit7, -one, one, one, np.inf, np.nan]
    np.testing.assert_array_equal(b, np.array(to_even, np.float32))
    away = [one + unit10, one]
    np.testing.assert_array_equal(t[4:6], np.array(away, np.float32))
    assert np.isinf(t[6])
    assert np.isnan(t[7])


def test_the_order_of_warps_changes_nothing_that_is_right(sim):
    first = reverse(sim, REVERSED)
    for sim.seed in range(1, 5):
        np.testing.assert_array_equal(reverse(sim, REVERSED), first)
