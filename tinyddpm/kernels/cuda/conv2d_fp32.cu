// The products of conv2d.cu in float32 on the ordinary cores: the same arguments and results, with
// operands of any number of channels. A block makes TILE × TILE values, a thread 4 × 4 of them.
#include "prims.cuh"
#include "gather.cuh"

constexpr int THREADS = 256, TILE = 64, CHUNK_K = 16;

typedef float Tile[CHUNK_K][TILE + 4];

// sums[i][j] += sum_k a[k][i] b[k][j], for the thread's rows and columns.
__device__ __forceinline__ void multiply(float sums[4][4], const Tile& a, const Tile& b) {
  int row = threadIdx.x / 16 * 4, column = threadIdx.x % 16 * 4;
#pragma unroll
  for (int k = 0; k < CHUNK_K; k++)
#pragma unroll
    for (int i = 0; i < 4; i++)
#pragma unroll
      for (int j = 0; j < 4; j++) sums[i][j] += a[k][row + i] * b[k][column + j];
}

extern "C" __global__ void __launch_bounds__(THREADS)
convolve(const float* x, const float* weight, const float* bias, const float* residual, float* y,
         int to_next_bias, int to_next_residual, int transpose, int images, int in_h, int in_w,
         int c_in, int out_h, int out_w, int c_out, int kh, int kw, int stride, int before) {
  __shared__ __align__(16) Tile a, b; // so that four values are one load
  Gather g = {axis_of(transpose, out_h, kh, stride, before, blockIdx.z / stride),
              axis_of(transpose, out_w, kw, stride, before, blockIdx.z % stride),
              images, in_h, in_w};
  int tiles_n = (c_out + TILE - 1) / TILE;
  int m0 = blockIdx.x / tiles_n * TILE, n0 = blockIdx.x % tiles_n * TILE;
  if (m0 >= results(g)) return; // a smaller phase than the first

  constexpr int ROWS = THREADS / CHUNK_K;
  int row = threadIdx.x / CHUNK_K, depth = g.y.taps * g.x.taps * c_in;
  Result rows[TILE / ROWS];
#pragma unroll
  for (int i = 0; i < TILE / ROWS; i++) rows[i] = result(g, m0 + row + ROWS * i);
  float sums[4][4] = {};
  for (int k0 = 0; k0 < depth; k0 += CHUNK_K) {
    int k = k0 + threadIdx.x % CHUNK_K, channel = k % c_in;
    int ty = k / c_in / g.x.taps, tx = k / c_in % g.x.taps;
    int tap = (g.y.tap + g.y.tap_step * ty) * kw + g.x.tap + g.x.tap_step * tx;
#pragma unroll
    for (int i = 0; i < TILE / ROWS; i++) {
      int pixel = k < depth ? source_pixel(g, rows[i], ty, tx) : -1, n = n0 + row + ROWS * i;
      bool inside = k < depth && n < c_out;
      a[threadIdx.x % CHUNK_K][row + ROWS * i] =
          pixel < 0 ? 0.0f : x[(size_t)pixel * c_in + channel];
      b[threadIdx.x % CHUNK_K][row + ROWS * i] =
          inside ? weight[((size_t)n * kh * kw + tap) * c_in + channel] : 0.0f;
    }
    __syncthreads();
    multiply(sums, a, b);
    __syncthreads();
  }

  for (int i = 0; i < 4; i++) {
    Result r = result(g, m0 + threadIdx.x / 16 * 4 + i);
    if (r.image >= images) continue;
    size_t pixel = result_pixel(g, r, out_h, out_w);
    for (int j = 0; j < 4; j++) {
      int n = n0 + threadIdx.x % 16 * 4 + j;
      if (n >= c_out) continue;
      float v = sums[i][j];
      if (bias) v += bias[to_next_bias * (size_t)r.image + n];
      if (residual) v += residual[to_next_residual * pixel + n];
      y[c_out * pixel + n] = v;
    }
  }
}

extern "C" __global__ void __launch_bounds__(THREADS)
weight_gradient(const float* x, const float* dy, float* partial, int images, int in_h, int in_w,
                int c_in, int channels_in, int out_h, int out_w, int c_out, int channels_out, int kh,
                int kw, int stride, int before) {
  __shared__ __align__(16) Tile a, b; // so that four values are one load
  Gather g = {axis_of(false, out_h, kh, stride, before, 0), axis_of(false, out_w, kw, stride, before, 0),
              images, in_h, in_w};
  int tiles_n = (c_out + TILE - 1) / TILE;
  int m0 = blockIdx.x / tiles_n * TILE, n0 = blockIdx.x % tiles_n * TILE;
  int chunks = (results(g) + CHUNK_K - 1) / CHUNK_K, share = (chunks + gridDim.z - 1) / gridDim.z;
  int first = min((int)blockIdx.z * share, chunks), last = min(first + share, chunks);

  constexpr int ROWS = THREADS / TILE;
  int row = threadIdx.x / TILE, m = m0 + threadIdx.x % TILE, n = n0 + threadIdx.x % TILE;
  int tap = m / c_in, channel = m % c_in;
  float sums[4][4] = {};
  for (int chunk = first; chunk < last; chunk++) {
    for (int i = row; i < CHUNK_K; i += ROWS) {
      int k = chunk * CHUNK_K + i;
      int pixel = tap < kh * kw ? source_pixel(g, result(g, k), tap / kw, tap % kw) : -1;
      bool inside = k < results(g) && n < c_out;
      a[i][threadIdx.x % TILE] = pixel < 0 ? 0.0f : x[(size_t)pixel * c_in + channel];
      b[i][threadIdx.x % TILE] = inside ? dy[(size_t)k * c_out + n] : 0.0f;
    }
    __syncthreads();
    multiply(sums, a, b);
    __syncthreads();
  }

  float* mine = partial + (size_t)blockIdx.z * kh * kw * channels_in * channels_out;
  for (int i = 0; i < 4; i++) {
    int m = m0 + threadIdx.x / 16 * 4 + i;
    if (m >= kh * kw * c_in) continue;
    for (int j = 0; j < 4; j++) {
      int n = n0 + threadIdx.x % 16 * 4 + j;
      if (n < c_out) mine[(size_t)m * channels_out + n] = sums[i][j];
    }
  }
}
