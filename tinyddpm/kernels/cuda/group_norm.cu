// Group normalisation, alone or followed by SiLU: twin of ops/group_norm.py and ops/group_norm_silu.py.
//
//   moments  offset = mean (x - pivot),  r = (mean (x - pivot)^2 - offset^2 + norm_eps)^(-1/2)
//   apply    x_hat = (x - pivot - offset) r,  h = weight x_hat + bias,  y = act(h)
//
// x is read twice and y is written.
#include "group_norm.cuh"
#include "sigmoid.cuh"

__device__ __forceinline__ float act(float h) { return SILU ? h * sigmoid(h) : h; }

// offset, r
__device__ __forceinline__ float2 moments_of(float2 mean, float norm_eps) {
  float var = mean.y - mean.x * mean.x;
  if (var < 0.0f) var = 0.0f; // by rounding
  float r = rsqrtf(var + norm_eps);
  // Of squares that have overflowed it is 0, and y would be the bias: that must not look right.
  return {mean.x, r > 0.0f ? r : __uint_as_float(0x7fc00000u)};
}

// Adds up x - pivot and its square over the slab, by channel: table (2, C), of (rows, 2, C).
__device__ __forceinline__ void add_up_x(float* table, const X* x, const X* x_rest, const Slab& s,
                                         int pivot_pixel) {
  for (int c = s.channel; c < s.channels; c += s.stride) {
    Channel<const X> of_x = channel_of(x, x_rest, s, c);
    Values pivot, sum = {}, square = {};
    for (int i = 0; i < VECTOR; i++) pivot.at[i] = pivot_of(x, x_rest, s, c + i, pivot_pixel);
#pragma unroll 4
    for (int p = s.first + s.row; p < s.end; p += s.rows) {
      Values v = load(of_x.at(p));
      for (int i = 0; i < VECTOR; i++) {
        float d = v.at[i] - pivot.at[i];
        sum.at[i] += d;
        square.at[i] += d * d;
      }
    }
    store(table + 2 * s.row * s.channels + c, sum);
    store(table + (2 * s.row + 1) * s.channels + c, square);
  }
  add_rows(table, s.rows, 2 * s.channels);
}

// Normalises the slab by mine (G, 2), this image's moments in shared memory; the first block of an
// image writes them to moments (N, G, 2).
__device__ __forceinline__ void apply(const X* x, const X* x_rest, const float* weight,
                                      const float* bias, Y* y, float* moments, const float* mine,
                                      const Slab& s, int groups, int pivot_pixel) {
  __syncthreads();
  if (blockIdx.x == 0)
    for (int i = threadIdx.x; i < 2 * groups; i += THREADS)
      moments[(size_t)blockIdx.y * 2 * groups + i] = mine[i];
  for (int c = s.channel; c < s.channels; c += s.stride) {
    Channel<const X> of_x = channel_of(x, x_rest, s, c);
    Y* of_y = y + s.image + c;
    Norm norm = norm_of(x, x_rest, s, c, pivot_pixel, mine, weight, bias);
#pragma unroll 4
    for (int p = s.first + s.row; p < s.end; p += s.rows) {
      Values v = load(of_x.at(p));
      for (int i = 0; i < VECTOR; i++) v.at[i] = act(norm.h(i, norm.x_hat(i, v.at[i])));
      store(of_y + p * s.channels, v);
    }
  }
}

// partial (N, slabs, G, 2): sum (x - pivot), sum (x - pivot)^2
extern "C" __global__ void __launch_bounds__(THREADS)
group_norm_moments(const X* ALIGNED x, const X* ALIGNED x_rest, float* partial, int pixels,
                   int channels, int split, int groups, int slab_pixels, int pivot_pixel) {
  DYNAMIC_SHARED(memory);
  float* table = (float*)memory; // (rows, 2, C)
  Slab s = this_slab(pixels, channels, split, groups, slab_pixels, 0);
  add_up_x(table, x, x_rest, s, pivot_pixel);
  for (int g = threadIdx.x; g < groups; g += THREADS) {
    size_t at = ((size_t)(blockIdx.y * gridDim.x + blockIdx.x) * groups + g) * 2;
    float2 sum = over_group(table, g, s, nullptr);
    partial[at] = sum.x, partial[at + 1] = sum.y;
  }
}

// moments (N, G, 2): offset, r
extern "C" __global__ void __launch_bounds__(THREADS)
group_norm_apply(const X* ALIGNED x, const X* ALIGNED x_rest, const float* weight,
                 const float* bias, const float* partial, Y* ALIGNED y, float* moments, int to_next,
                 int pixels, int channels, int split, int groups, int slab_pixels,
                 int pivot_pixel, float norm_eps) {
  DYNAMIC_SHARED(memory);
  float2* mine = (float2*)memory; // (G,)
  Slab s = this_slab(pixels, channels, split, groups, slab_pixels, to_next);
  for (int g = threadIdx.x; g < groups; g += THREADS)
    mine[g] = moments_of(over_slabs(partial, g, groups, s), norm_eps);
  apply(x, x_rest, weight, bias, y, moments, (float*)mine, s, groups, pivot_pixel);
}

// Moments and y of images that are one slab each. (Told that four blocks share a multiprocessor, the
// compiler takes the registers for that, and not so few that they spill.)
extern "C" __global__ void __launch_bounds__(THREADS, 4)
group_norm_forward(const X* ALIGNED x, const X* ALIGNED x_rest, const float* weight,
                   const float* bias, Y* ALIGNED y, float* moments, int to_next, int pixels,
                   int channels, int split, int groups, int slab_pixels, int pivot_pixel,
                   float norm_eps) {
  DYNAMIC_SHARED(memory);
  float2* mine = (float2*)memory; // (G,)
  float* table = (float*)(mine + groups + groups % 2); // (rows, 2, C)
  Slab s = this_slab(pixels, channels, split, groups, slab_pixels, to_next);
  add_up_x(table, x, x_rest, s, pivot_pixel);
  for (int g = threadIdx.x; g < groups; g += THREADS)
    mine[g] = moments_of(mean_of(over_group(table, g, s, nullptr), s), norm_eps);
  apply(x, x_rest, weight, bias, y, moments, (float*)mine, s, groups, pivot_pixel);
}
