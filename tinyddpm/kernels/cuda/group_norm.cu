// Group normalisation, alone (SILU 0) or followed by SiLU (SILU 1), of x (N, P, C) with P = H W
// pixels: twin of ops/group_norm.py and ops/group_norm_silu.py. Means run over one (n, g).
//
//   moments  offset = mean (x - pivot),  r = (mean (x - pivot)^2 - offset^2 + norm_eps)^(-1/2)
//   apply    x_hat = (x - pivot - offset) r,  h = weight x_hat + bias,  y = act(h)
//
//   sums     dh = dy act'(h),  dbias = sum dh,  dweight = sum dh x_hat
//   dx       dx = r (weight dh - mean(weight dh) - x_hat mean(weight dh x_hat)) + residual
//
// Images are cut into slabs: some pixels of one image, with all their channels. A block adds up its
// slab, and the next kernel adds up the slabs in their order: no sum depends on who came first. Of an
// image that is one slab, one block does what two kernels do of others: forward, and backward.
// x is read twice and y is written; backward, x and dy are read twice, the residual, if there is one,
// is read, and dx is written.
//
// The channels of x from `split` on may lie in a map of their own, x_rest (N, P, C - split); those of
// dx then lie in dx_rest. Where all are in x, split is C.
//
// An image may have a weight and a bias of its own, to_next (0 or C) values behind those of the image
// before. Sums for dbias and dweight are kept for each slab of each image, the images side by side.
//
// The pivot of a group is one of its own values. So offset^2 <= (P C/G) var, little is lost where
// the mean is far from zero, and the mean remains the pair (pivot, offset) to the end.
//
// VECTOR (1 or 4) channels make one load or store. RESULT, the type of y, is float, or bf16 or
// tf32 for a product that takes y as it is.
#include "prims.cuh"
#include "sigmoid.cuh"

#define THREADS 256

struct Values {
  float at[VECTOR];
};

__device__ __forceinline__ Values load(const float* from) {
  Values v;
#if VECTOR == 4
  float4 a = *(const float4*)from;
  v.at[0] = a.x, v.at[1] = a.y, v.at[2] = a.z, v.at[3] = a.w;
#else
  v.at[0] = *from;
#endif
  return v;
}

template <class T> struct __align__(VECTOR * sizeof(T)) Stored {
  T at[VECTOR];
};

template <class T> __device__ __forceinline__ void store(T* to, const Values& v) {
  Stored<T> stored;
  for (int i = 0; i < VECTOR; i++) stored.at[i] = rounded<T>(v.at[i]);
  *(Stored<T>*)to = stored;
}

__device__ __forceinline__ float act(float h) { return SILU ? h * sigmoid(h) : h; }

__device__ __forceinline__ float act_derivative(float h) {
  if (!SILU) return 1.0f;
  float s = sigmoid(h);
  return s * (1.0f + h * (1.0f - s));
}

// This block's slab, and this thread's place in it. The threads lie over the slab as a table: a
// column is VECTOR channels, a row is every rows-th pixel. Where there are more columns than
// threads, a thread takes several, one after the other.
struct Slab {
  int pixels, channels, split, per_group;
  int channel, stride;     // a thread's channels: channel, channel + stride, ...
  int row, rows;
  int first, end;          // the pixels
  size_t image;            // where the image begins in a map of all channels
  int own;                 // where its weight and bias begin
};

__device__ __forceinline__ Slab this_slab(int pixels, int channels, int split, int groups,
                                          int slab_pixels, int to_next) {
  Slab s;
  int columns = min(channels / VECTOR, THREADS), thread = threadIdx.x;
  s.pixels = pixels, s.channels = channels, s.split = split, s.per_group = channels / groups;
  s.rows = THREADS / columns, s.row = thread / columns;
  s.channel = s.row < s.rows ? thread % columns * VECTOR : channels; // too many: nothing to do
  s.stride = columns * VECTOR;
  s.first = blockIdx.x * slab_pixels, s.end = min(s.first + slab_pixels, pixels);
  s.image = (size_t)blockIdx.y * pixels * channels;
  s.own = to_next * blockIdx.y;
  return s;
}

// A channel of this image in a map of some width: its value at a pixel.
template <class Value> struct Channel {
  Value* first;
  int width;

  __device__ __forceinline__ Value* at(int pixel) const { return first + pixel * width; }
};

// Finds it in a map of two parts.
template <class Value>
__device__ __forceinline__ Channel<Value> channel_of(Value* map, Value* rest, const Slab& s, int c) {
  size_t pixel = (size_t)blockIdx.y * s.pixels; // the image's first
  int width = c < s.split ? s.split : s.channels - s.split;
  return {c < s.split ? map + pixel * width + c : rest + pixel * width + c - s.split, width};
}

// The pivot of the group that channel c is of.
__device__ __forceinline__ float pivot_of(const float* x, const float* x_rest, const Slab& s, int c,
                                          int pivot_pixel) {
  return *channel_of(x, x_rest, s, c / s.per_group * s.per_group).at(pivot_pixel);
}

// What normalises a thread's channels: the same for all pixels of an image.
struct Norm {
  float pivot[VECTOR], offset[VECTOR], r[VECTOR], weight[VECTOR], bias[VECTOR];

  __device__ __forceinline__ float x_hat(int i, float x) const {
    return (x - pivot[i] - offset[i]) * r[i];
  }
  __device__ __forceinline__ float h(int i, float x_hat) const {
    return weight[i] * x_hat + bias[i];
  }
};

// moments: of this image, (G, 2)
__device__ __forceinline__ Norm norm_of(const float* x, const float* x_rest, const Slab& s,
                                        int channel, int pivot_pixel, const float* moments,
                                        const float* weight, const float* bias) {
  Norm norm;
  for (int i = 0; i < VECTOR; i++) {
    int c = channel + i, group = c / s.per_group;
    norm.pivot[i] = pivot_of(x, x_rest, s, c, pivot_pixel);
    norm.offset[i] = moments[2 * group], norm.r[i] = moments[2 * group + 1];
    norm.weight[i] = weight[s.own + c], norm.bias[i] = bias[s.own + c];
  }
  return norm;
}

// Adds the rows of table (rows, width), in shared memory, into its first row, as a tree.
__device__ __forceinline__ void add_rows(float* table, int rows, int width) {
  __syncthreads();
  while (rows > 1) {
    int half = (rows + 1) / 2;
    for (int i = threadIdx.x; i < (rows - half) * width; i += THREADS)
      table[i] += table[half * width + i];
    __syncthreads();
    rows = half;
  }
}

// The sum of a pair over the channels of a group, each weighted where there is a weight.
__device__ __forceinline__ float2 over_group(const float* pairs, int group, const Slab& s,
                                             const float* weight) {
  float2 sum = {0.0f, 0.0f};
  for (int c = group * s.per_group; c < (group + 1) * s.per_group; c++) {
    float w = weight ? weight[s.own + c] : 1.0f;
    sum.x += w * pairs[c];
    sum.y += w * pairs[s.channels + c];
  }
  return sum;
}

__device__ __forceinline__ float2 mean_of(float2 sum, const Slab& s) {
  float count = (float)s.pixels * s.per_group;
  return {sum.x / count, sum.y / count};
}

// The mean over this image's slabs of partial sums (N, slabs, G, 2).
__device__ __forceinline__ float2 over_slabs(const float* partial, int group, int groups,
                                             const Slab& s) {
  float2 sum = {0.0f, 0.0f};
#pragma unroll 8
  for (int slab = 0; slab < gridDim.x; slab++) {
    size_t at = ((size_t)(blockIdx.y * gridDim.x + slab) * groups + group) * 2;
    sum.x += partial[at];
    sum.y += partial[at + 1];
  }
  return mean_of(sum, s);
}

// offset, r
__device__ __forceinline__ float2 moments_of(float2 mean, float norm_eps) {
  float var = mean.y - mean.x * mean.x;
  if (var < 0.0f) var = 0.0f; // by rounding
  float r = rsqrtf(var + norm_eps);
  // Of squares that have overflowed it is 0, and y would be the bias: that must not look right.
  return {mean.x, r > 0.0f ? r : __uint_as_float(0x7fc00000u)};
}

// Adds up x - pivot and its square over the slab, by channel: table (2, C), of (rows, 2, C).
__device__ __forceinline__ void add_up_x(float* table, const float* x, const float* x_rest,
                                         const Slab& s, int pivot_pixel) {
  for (int c = s.channel; c < s.channels; c += s.stride) {
    Channel<const float> of_x = channel_of(x, x_rest, s, c);
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
__device__ __forceinline__ void apply(const float* x, const float* x_rest, const float* weight,
                                      const float* bias, RESULT* y, float* moments,
                                      const float* mine, const Slab& s, int groups,
                                      int pivot_pixel) {
  __syncthreads();
  if (blockIdx.x == 0)
    for (int i = threadIdx.x; i < 2 * groups; i += THREADS)
      moments[(size_t)blockIdx.y * 2 * groups + i] = mine[i];
  for (int c = s.channel; c < s.channels; c += s.stride) {
    Channel<const float> of_x = channel_of(x, x_rest, s, c);
    RESULT* of_y = y + s.image + c;
    Norm norm = norm_of(x, x_rest, s, c, pivot_pixel, mine, weight, bias);
#pragma unroll 4
    for (int p = s.first + s.row; p < s.end; p += s.rows) {
      Values v = load(of_x.at(p));
      for (int i = 0; i < VECTOR; i++) v.at[i] = act(norm.h(i, norm.x_hat(i, v.at[i])));
      store(of_y + p * s.channels, v);
    }
  }
}

// Adds up dh and dh x_hat over the slab, by channel: table (2, C), of (rows, 2, C), and by_channel
// (slabs, N, 2, C).
__device__ __forceinline__ void add_up_dh(float* table, const float* dy, const float* x,
                                          const float* x_rest, const float* weight,
                                          const float* bias, const float* moments,
                                          float* by_channel, const Slab& s, int pivot_pixel) {
  for (int c = s.channel; c < s.channels; c += s.stride) {
    Channel<const float> of_x = channel_of(x, x_rest, s, c);
    const float* of_dy = dy + s.image + c;
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

// dx of the slab; means (G,), in shared memory: of weight dh, of weight dh x_hat.
__device__ __forceinline__ void find_dx(const float* dy, const float* x, const float* x_rest,
                                        const float* weight, const float* bias,
                                        const float* moments, const float2* means,
                                        const float* residual, float* dx, float* dx_rest,
                                        const Slab& s, int pivot_pixel) {
  __syncthreads();
  for (int c = s.channel; c < s.channels; c += s.stride) {
    Channel<const float> of_x = channel_of(x, x_rest, s, c);
    const float *of_dy = dy + s.image + c, *of_residual = residual + s.image + c;
    Channel<float> of_dx = channel_of(dx, dx_rest, s, c);
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
      }
      store(of_dx.at(p), d);
    }
  }
}

// partial (N, slabs, G, 2): sum (x - pivot), sum (x - pivot)^2
extern "C" __global__ void __launch_bounds__(THREADS)
group_norm_moments(const float* ALIGNED x, const float* ALIGNED x_rest, float* partial, int pixels,
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
group_norm_apply(const float* ALIGNED x, const float* ALIGNED x_rest, const float* weight,
                 const float* bias, const float* partial, RESULT* ALIGNED y, float* moments,
                 int to_next, int pixels, int channels, int split, int groups, int slab_pixels,
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
group_norm_forward(const float* ALIGNED x, const float* ALIGNED x_rest, const float* weight,
                   const float* bias, RESULT* ALIGNED y, float* moments, int to_next, int pixels,
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

// by_channel (slabs, N, 2, C): sum dh, sum dh x_hat
// by_group (N, slabs, G, 2): sum weight dh, sum weight dh x_hat
extern "C" __global__ void __launch_bounds__(THREADS)
group_norm_sums(const float* ALIGNED dy, const float* ALIGNED x, const float* ALIGNED x_rest,
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

extern "C" __global__ void __launch_bounds__(THREADS)
group_norm_dx(const float* ALIGNED dy, const float* ALIGNED x, const float* ALIGNED x_rest,
              const float* weight, const float* bias, const float* moments, const float* by_group,
              const float* ALIGNED residual, float* ALIGNED dx, float* ALIGNED dx_rest, int to_next,
              int pixels, int channels, int split, int groups, int slab_pixels, int pivot_pixel) {
  DYNAMIC_SHARED(memory);
  float2* means = (float2*)memory; // (G,)
  Slab s = this_slab(pixels, channels, split, groups, slab_pixels, to_next);
  moments += (size_t)blockIdx.y * 2 * groups;
  for (int g = threadIdx.x; g < groups; g += THREADS) means[g] = over_slabs(by_group, g, groups, s);
  find_dx(dy, x, x_rest, weight, bias, moments, means, residual, dx, dx_rest, s,
          pivot_pixel);
}

// Sums and dx of images that are one slab each.
extern "C" __global__ void __launch_bounds__(THREADS)
group_norm_backward(const float* ALIGNED dy, const float* ALIGNED x, const float* ALIGNED x_rest,
                    const float* weight, const float* bias, const float* moments,
                    float* by_channel, const float* ALIGNED residual, float* ALIGNED dx,
                    float* ALIGNED dx_rest, int to_next, int pixels, int channels, int split,
                    int groups, int slab_pixels, int pivot_pixel) {
  DYNAMIC_SHARED(memory);
  float2* means = (float2*)memory; // (G,)
  float* table = (float*)(means + groups + groups % 2); // (rows, 2, C)
  Slab s = this_slab(pixels, channels, split, groups, slab_pixels, to_next);
  moments += (size_t)blockIdx.y * 2 * groups;
  add_up_dh(table, dy, x, x_rest, weight, bias, moments, by_channel, s, pivot_pixel);
  for (int g = threadIdx.x; g < groups; g += THREADS)
    means[g] = mean_of(over_group(table, g, s, weight), s);
  find_dx(dy, x, x_rest, weight, bias, moments, means, residual, dx, dx_rest, s,
          pivot_pixel);
}
