// Group normalisation, alone (SILU 0) or followed by SiLU (SILU 1), of x (N, P, C) with P = H W
// pixels: what forward (group_norm.cu) and backward (group_norm_backward.cu) have in common. Means run
// over one (n, g).
//
// Images are cut into slabs: some pixels of one image, with all their channels. A block adds up its
// slab, and the next kernel adds up the slabs in their order: no sum depends on who came first. Of an
// image that is one slab, one block does what two kernels do of others: forward, and backward.
//
// The channels of x from `split` on may lie in a map of their own, x_rest (N, P, C - split). Where all
// are in x, split is C.
//
// An image may have a weight and a bias of its own, to_next (0 or C) values behind those of the image
// before.
//
// The pivot of a group is one of its own values. So offset^2 <= (P C/G) var, little is lost where
// the mean is far from zero, and the mean remains the pair (pivot, offset) to the end.
//
// VECTOR (1 or 4) channels make one load or store. X, Y, DY and DX are the types of x, y, dy and dx:
// float; of y and dx also that of the operands of a product, which takes them as they are; of x and dy
// also bf16, where a product left them to a norm alone.
#include "prims.cuh"

#define THREADS 256

struct Values {
  float at[VECTOR];
};

template <class T> struct __align__(VECTOR * sizeof(T)) Stored {
  T at[VECTOR];
};

template <class T> __device__ __forceinline__ Values load(const T* from) {
  Stored<T> stored = *(const Stored<T>*)from;
  Values v;
  for (int i = 0; i < VECTOR; i++) v.at[i] = to_float(stored.at[i]);
  return v;
}

template <class T> __device__ __forceinline__ void store(T* to, const Values& v) {
  Stored<T> stored;
  for (int i = 0; i < VECTOR; i++) stored.at[i] = rounded<T>(v.at[i]);
  *(Stored<T>*)to = stored;
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
__device__ __forceinline__ float pivot_of(const X* x, const X* x_rest, const Slab& s, int c,
                                          int pivot_pixel) {
  return to_float(*channel_of(x, x_rest, s, c / s.per_group * s.per_group).at(pivot_pixel));
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
__device__ __forceinline__ Norm norm_of(const X* x, const X* x_rest, const Slab& s, int channel,
                                        int pivot_pixel, const float* moments,
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
