// What the products of conv2d.cu are made of. An operand's values are OPERAND, rounded, and
// its channels are padded with zeros to a multiple of a piece of 16 bytes. (In float32 an image
// is an operand as it is: only its sums are wanted here, and those in two parts are made one.)
#include "items.cuh"
#include "prims.cuh"

constexpr int PIECE = 16 / sizeof(OPERAND);
constexpr int THREADS = 256;

struct __align__(16) Piece {
  OPERAND at[PIECE];
};

// Channels channel, channel + 1, … of a row of c; zeros behind its end.
__device__ __forceinline__ void load(float v[PIECE], const float* row, int channel, int c) {
  if ((size_t)(row + channel) % 16 == 0 && channel + PIECE <= c) {
#pragma unroll
    for (int e = 0; e < PIECE; e += 4) {
      float4 four = *(const float4*)(row + channel + e);
      v[e] = four.x, v[e + 1] = four.y, v[e + 2] = four.z, v[e + 3] = four.w;
    }
  } else {
#pragma unroll
    for (int e = 0; e < PIECE; e++) v[e] = channel + e < c ? row[channel + e] : 0.0f;
  }
}

// The same of a row whose channels from `split` on are a row of their own, `rest`.
__device__ __forceinline__ void load(float v[PIECE], const float* row, const float* rest,
                                     int channel, int split, int c) {
  if (channel + PIECE <= split || split == c) return load(v, row, channel, split);
  if (channel >= split) return load(v, rest, channel - split, c - split);
#pragma unroll
  for (int e = 0; e < PIECE; e++) {
    int i = channel + e;
    v[e] = i < split ? row[i] : i < c ? rest[i - split] : 0.0f;
  }
}

// Writes channels channel, channel + 1, … of a row of c: of float32 alone may a row end within a piece.
__device__ __forceinline__ void store(OPERAND* row, const Piece& piece, int channel, int c) {
  if (c % PIECE == 0) {
    *(Piece*)(row + channel) = piece;
  } else {
#pragma unroll
    for (int e = 0; e < PIECE; e++)
      if (channel + e < c) row[channel + e] = piece.at[e];
  }
}

// Writes x (images, rows, c) as an operand (images, rows, c_padded), and the sum over each slab of an
// image's rows into partial (slabs, images, c); either may be null. The channels from `split` on may
// lie in an array of their own, x_rest; where they do not, split is c. A block is some pieces wide and
// takes blockDim.y rows at once.
extern "C" __global__ void __launch_bounds__(THREADS)
pack(const float* __restrict__ x, const float* __restrict__ x_rest,
     OPERAND* __restrict__ ALIGNED packed, float* partial, int images, int rows, int c, int split,
     int c_padded, int slab) {
  __shared__ float sums[THREADS * PIECE];
  int piece = blockIdx.y * blockDim.x + threadIdx.x, channel = piece * PIECE;
  int thread = threadIdx.y * blockDim.x + threadIdx.x, width = blockDim.x * PIECE;
  int image = blockIdx.x % images, first = blockIdx.x / images * slab, end = image * rows + rows;
  int last = min(image * rows + first + slab, end);
  float sum[PIECE] = {};
  for (int row = image * rows + first + threadIdx.y; row < last && channel < c; row += blockDim.y) {
    float v[PIECE];
    load(v, x + (size_t)row * split, x_rest + (size_t)row * (c - split), channel, split, c);
    Piece values;
#pragma unroll
    for (int e = 0; e < PIECE; e++) {
      sum[e] += v[e];
      values.at[e] = rounded<OPERAND>(v[e]);
    }
    if (packed) store(packed + (size_t)row * c_padded, values, channel, c_padded);
  }
  if (!partial) return;
#pragma unroll
  for (int e = 0; e < PIECE; e++) sums[thread * PIECE + e] = sum[e];
  __syncthreads();
  for (int i = thread; i < width; i += blockDim.x * blockDim.y) {
    float total = 0.0f;
    for (int row = 0; row < blockDim.y; row++) total += sums[row * width + i];
    if (blockIdx.y * width + i < c) partial[(size_t)blockIdx.x * c + blockIdx.y * width + i] = total;
  }
}

struct Weight {
  const float* values;
  OPERAND *by_out, *by_in;
  long long taps, c_in, c_in_padded, c_out, c_out_padded, first_item;
};

// Writes weights (taps, c_in, c_out) as the operands that multiply x and dy: by_out (c_out, taps,
// c_in) and by_in (c_in, taps, c_out), the last axes padded. A block, an item, turns 32 × 32 of one
// tap.
extern "C" __global__ void __launch_bounds__(THREADS)
pack_weights(const unsigned long long* table, int weights) {
  __shared__ float tile[32][33];
  Weight w = row_of((const Weight*)table, weights, blockIdx.x);
  int item = blockIdx.x - w.first_item, across = (w.c_out_padded + 31) / 32;
  int tap = item % w.taps, out0 = item / w.taps % across * 32, in0 = item / w.taps / across * 32;
  for (int i = threadIdx.y; i < 32; i += 8) {
    int in = in0 + i, out = out0 + threadIdx.x;
    bool inside = in < w.c_in && out < w.c_out;
    tile[i][threadIdx.x] = inside ? w.values[(tap * w.c_in + in) * w.c_out + out] : 0.0f;
    if (in < w.c_in && out < w.c_out_padded)
      w.by_in[(in * w.taps + tap) * w.c_out_padded + out] = rounded<OPERAND>(tile[i][threadIdx.x]);
  }
  __syncthreads();
  for (int i = threadIdx.y; i < 32; i += 8) {
    int in = in0 + threadIdx.x, out = out0 + i;
    if (out < w.c_out && in < w.c_in_padded)
      w.by_out[(out * w.taps + tap) * w.c_in_padded + in] = rounded<OPERAND>(tile[threadIdx.x][i]);
  }
}

// Doubling an image and convolving it by 3×3 is the transpose of a convolution of stride 2 by 4×4,
// whose weight is the 3×3 reversed, repeated in a 2×2 square and added up where it overlaps:
//     folded[u, v] = Σ weight[a, b]  over  2 - a ∈ {u, u - 1},  2 - b ∈ {v, v - 1}
// weight (3, 3, c_in, c_out), folded (4, 4, c_in, c_out); plane = c_in c_out.
extern "C" __global__ void __launch_bounds__(THREADS)
fold_doubling(const float* weight, float* folded, int plane) {
  int i = blockIdx.x * THREADS + threadIdx.x;
  if (i >= plane) return;
  float sums[4][4] = {};
#pragma unroll
  for (int a = 0; a < 3; a++)
#pragma unroll
    for (int b = 0; b < 3; b++) {
      float w = weight[(size_t)(3 * a + b) * plane + i];
      sums[2 - a][2 - b] += w, sums[2 - a][3 - b] += w;
      sums[3 - a][2 - b] += w, sums[3 - a][3 - b] += w;
    }
#pragma unroll
  for (int u = 0; u < 4; u++)
#pragma unroll
    for (int v = 0; v < 4; v++) folded[(size_t)(4 * u + v) * plane + i] = sums[u][v];
}

// The gradient of `weight` from that of `folded`, which comes with its channels exchanged:
// dfolded (4, 4, c_out, c_in).
extern "C" __global__ void __launch_bounds__(THREADS)
unfold_doubling(const float* dfolded, float* dweight, int c_in, int c_out) {
  int i = blockIdx.x * THREADS + threadIdx.x, plane = c_in * c_out;
  if (i >= plane) return;
  int in = i % c_in, out = i / c_in;
#pragma unroll
  for (int a = 0; a < 3; a++)
#pragma unroll
    for (int b = 0; b < 3; b++) {
      const float* corner = dfolded + (size_t)(4 * (2 - a) + 2 - b) * plane + i;
      float sum = corner[0] + corner[plane] + corner[4 * (size_t)plane] + corner[5 * (size_t)plane];
      dweight[((size_t)(3 * a + b) * c_in + in) * c_out + out] = sum;
    }
}
