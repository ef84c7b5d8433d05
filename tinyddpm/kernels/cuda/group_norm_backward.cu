// Backward of group_norm.cu:
//
//   sums     dh = dy act'(h),  dbias = sum dh,  dweight = sum dh x_hat
//   dx       dx = r (weight dh - mean(weight dh) - x_hat mean(weight dh x_hat)) + residual
//
// x and dy are read twice, the residual, if there is one, is read, and dx is written, in two maps as x
// is. Sums for dbias and dweight are kept for each slab of each image, the images side by side; and
// where SUMS is 1 those of dx, for the bias of a convolution that made x. These need registers. (Told
// how many blocks share a multiprocessor, the compiler takes the registers for that, and not so few
// that they spill.)
#include "group_norm.cuh"
#include "sigmoid.cuh"

#if SUMS
#define BOUNDS THREADS, 3
#else
#define BOUNDS THREADS
#endif

__device__ __forceinline__ float act_derivative(float h) {
  if (!SILU) return 1.0f;
  float s = sigmoid(h);
  return s * (1.0f + h * (1.0f - s));
}

// Adds up dh and dh x_hat over the slab, by channel: table (2, C), of (rows, 2, C), and by_channel
// (slabs, N, 2, C).
__device__ __forceinline__ void add_up_dh(float* table, const DY* dy, const X* x, const X* x_rest,
                                          const float* weight, const float* bias,
                                          const float* moments, float* by_channel, const Slab& s,
                                          int pivot_pixel) {
  for (int c = s.channel; c < s.channels; c += s.stride) {
    Channel<const X> of_x = channel_of(x, x_rest, s, c);
    const DY* of_dy = dy + s.image + c;
    Norm norm = norm_of(x, x_rest, s, c, pivot_pixel, moments, weight, bias);
    Values sum = {}, product = {};
#pragma unroll 2
    for (int p = s.first + s.row; p < s.end; p += s.rows) {
      Values v = load(of_x.at(p)), d = load(of_dy + p * s.channels);
      for (int i = 0; i < VECTOR; i++) {
        float x_hat = norm.x_hat(i, v.at[i]);
        float dh = d.at[i] * act_derivative(norm.h(i, x_hat));
        sum.at[i] += dh;
        product.at[i] += dh * x_hat;
      }
    }
    store(table + 2 * s.row * s.channels + c, sum);
    store(table + (2 * s.row + 1) * s.channels + c, product);
  }
  add_rows(table, s.rows, 2 * s.channels);
  by_channel += (size_t)(blockIdx.x * gridDim.y + blockIdx.y) * 2 * s.channels;
  for (int i = threadIdx.x; i < 2 * s.channels; i += THREADS) by_channel[i] = table[i];
}

// dx of the slab, and where SUMS is 1 its sums by channel, dx_sums (slabs, N, C); means (G,), in
// shared memory: of weight dh, of weight dh x_hat. table (rows, C)
__device__ __forceinline__ void find_dx(float* table, const DY* dy, const X* x, const X* x_rest,
                                        const float* weight, const float* bias,
                                        const float* moments, const float2* means,
                                        const float* residual, DX* dx, DX* dx_rest, float* dx_sums,
                                        const Slab& s, int pivot_pixel) {
  __syncthreads();
  for (int c = s.channel; c < s.channels; c += s.stride) {
    Channel<const X> of_x = channel_of(x, x_rest, s, c);
    const DY* of_dy = dy + s.image + c;
    const float* of_residual = residual + s.image + c;
    Channel<DX> of_dx = channel_of(dx, dx_rest, s, c);
    Values sum = {};
    Norm norm = norm_of(x, x_rest, s, c, pivot_pixel, moments, weight, bias);
    float2 mean[VECTOR];
    for (int i = 0; i < VECTOR; i++) mean[i] = means[(c + i) / s.per_group];
#pragma unroll 2
    for (int p = s.first + s.row; p < s.end; p += s.rows) {
      Values v = load(of_x.at(p)), d = load(of_dy + p * s.channels), other = {};
      if (residual) other = load(of_residual + p * s.channels);
      for (int i = 0; i < VECTOR; i++) {
        float x_hat = norm.x_hat(i, v.at[i]);
        float dh = d.at[i] * act_derivative(norm.h(i, x_hat));
        d.at[i] = norm.r[i] * (norm.weight[i] * dh - mean[i].x - x_hat * mean[i].y) + other.at[i];
        if (SUMS) sum.at[i] += d.at[i];
      }
      store(of_dx.at(p), d);
    }
    if (SUMS) store(table + s.row * s.channels + c, sum);
  }
  if (!SUMS) return;
  add_rows(table, s.rows, s.channels);
  dx_sums += (size_t)(blockIdx.x * gridDim.y + blockIdx.y) * s.channels;
  for (int i = threadIdx.x; i < s.channels; i += THREADS) dx_sums[i] = table[i];
}

// by_channel (slabs, N, 2, C): sum dh, sum dh x_hat
// by_group (N, slabs, G, 2): sum weight dh, sum weight dh x_hat
extern "C" __global__ void __launch_bounds__(THREADS, 4)
group_norm_sums(const DY* ALIGNED dy, const X* ALIGNED x, const X* ALIGNED x_rest,
                const float* weight, const float* bias, const float* moments, float* by_channel,
                float* by_group, int to_next, int pixels, int channels, int split, int groups,
                int slab_pixels, int pivot_pixel) {
  DYNAMIC_SHARED(memory);
  float* table = (float*)memory; // (rows, 2, C)
  Slab s = this_slab(pixels, channels, split, groups, slab_pixels, to_next);
  moments += (size_t)blockIdx.y * 2 * groups;
  add_up_dh(table, dy, x, x_rest, weight, bias, moments, by_channel, s, pivot_pixel);
  size_t block = blockIdx.y * gridDim.x + blockIdx.x;
  for (int g = threadIdx.x; g < groups; g += THREADS) {
    float2 sum = over_group(table, g, s, weight);
    by_group[(block * groups + g) * 2] = sum.x, by_group[(block * groups + g) * 2 + 1] = sum.y;
  }
}

extern "C" __global__ void __launch_bounds__(BOUNDS)
group_norm_dx(const DY* ALIGNED dy, const X* ALIGNED x, const X* ALIGNED x_rest,
              const float* weight, const float* bias, const float* moments, const float* by_group,
              const float* ALIGNED residual, DX* ALIGNED dx, DX* ALIGNED dx_rest, float* dx_sums,
              int to_next, int pixels, int channels, int split, int groups, int slab_pixels,
              int pivot_pixel) {
  DYNAMIC_SHARED(memory);
  float2* means = (float2*)memory; // (G,)
  float* table = (float*)(means + groups + groups % 2); // (rows, C)
  Slab s = this_slab(pixels, channels, split, groups, slab_pixels, to_next);
  moments += (size_t)blockIdx.y * 2 * groups;
  for (int g = threadIdx.x; g < groups; g += THREADS) means[g] = over_slabs(by_group, g, groups, s);
  find_dx(table, dy, x, x_rest, weight, bias, moments, means, residual, dx, dx_rest, dx_sums, s,
          pivot_pixel);
}

// Sums and dx of images that are one slab each.
extern "C" __global__ void __launch_bounds__(BOUNDS)
group_norm_backward(const DY* ALIGNED dy, const X* ALIGNED x, const X* ALIGNED x_rest,
                    const float* weight, const float* bias, const float* moments,
                    float* by_channel, const float* ALIGNED residual, DX* ALIGNED dx,
                    DX* ALIGNED dx_rest, float* dx_sums, int to_next, int pixels, int channels,
                    int split, int groups, int slab_pixels, int pivot_pixel) {
  DYNAMIC_SHARED(memory);
  float2* means = (float2*)memory; // (G,)
  float* table = (float*)(means + groups + groups % 2); // (rows, 2, C)
  Slab s = this_slab(pixels, channels, split, groups, slab_pixels, to_next);
  moments += (size_t)blockIdx.y * 2 * groups;
  add_up_dh(table, dy, x, x_rest, weight, bias, moments, by_channel, s, pivot_pixel);
  for (int g = threadIdx.x; g < groups; g += THREADS)
    means[g] = mean_of(over_group(table, g, s, weight), s);
  find_dx(table, dy, x, x_rest, weight, bias, moments, means, residual, dx, dx_rest, dx_sums, s,
          pivot_pixel);
}
