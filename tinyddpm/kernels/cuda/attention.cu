// Multi-head self-attention, twin of ops/attention.py, that never stores the L^2 probabilities (Dao et
// al. 2022, arXiv 2205.14135). For each image and head, with head width D,
//
//   forward    s = q k^T / sqrt D      lse = log sum exp s      p = exp(s - lse)      y = p v
//   backward   delta = sum_D dy y      ds = p (dy v^T - delta) / sqrt D
//              dq = ds k               dk = ds^T q              dv = p^T dy
//
// Each result is weights times a matrix, and is made in one way: a block owns TILE rows of the
// result, goes through the columns of the weights TILE at a time, makes these weights (anew in the
// backward, from lse), and adds weights times matrix. The largest score is not known before the end:
// the softmax is kept relative to the largest so far, and what was added is scaled when that grows.
//
// Powers are of two: scores are multiplied by log2(e), and lse is a logarithm to base 2.
//
// A warp owns 16 rows. All products leave their sums where mma leaves them (see prims.cuh), with
// g = lane / 4 and q = lane % 4: rows g and g + 8, columns 8 j + 2 q and the next. They are computed
// by the tensor cores in TF32 where TENSOR is 1, else by fused multiply-adds.
//
// WIDTH columns of a result fit into a block's registers; wider heads are cut into several blocks.
#include "prims.cuh"

#define TILE 64
#define THREADS 128 // TILE / 16 warps
#define BLOCKS (WIDTH < 128 ? 3 : 2) // on a multiprocessor, as its registers allow
#define CHUNK (WIDTH < 32 ? WIDTH : 32) // columns that are in shared memory at a time
#define NEVER (-1e30f) // a score whose exponential is 0

// Leading dimensions that spread what a warp reads at once over the banks.
#define LD_ROWS (CHUNK + 4)
#define LD_MATRIX (CHUNK + 8)
#define LD_WEIGHTS (TILE + 4)

typedef float Sums[4]; // of one 16 x 8 product

// q, k, v or another array of one image and head: L tokens, D wide.
struct Tokens {
  const float* data;
  int stride, tokens, width;
};

struct Shared {
  float* rows;    // (TILE, LD_ROWS)
  float* columns; // (TILE, LD_ROWS), and in turn the matrix: (TILE, LD_MATRIX)
  float* weights; // (TILE, LD_WEIGHTS)
};

#define SHARED_MEMORY                                                                               \
  __shared__ __align__(16) float memory[TILE * (LD_ROWS + LD_MATRIX + LD_WEIGHTS)];                 \
  Shared shared = {memory, memory + TILE * LD_ROWS, memory + TILE * (LD_ROWS + LD_MATRIX)}

__device__ __forceinline__ float operand(float x) {
#if TENSOR
  return __uint_as_float(to_tf32(x));
#else
  return x;
#endif
}

// TILE tokens and CHUNK columns of m, zero beyond its ends.
__device__ __forceinline__ void load_tile(float* tile, int ld, const Tokens& m, int token,
                                          int column) {
  for (int i = threadIdx.x; i < TILE * CHUNK / 4; i += THREADS) {
    int row = i / (CHUNK / 4), at = i % (CHUNK / 4) * 4, c = column + at;
    const float* from = m.data + (size_t)(token + row) * m.stride + c;
    float4 v = {0.0f, 0.0f, 0.0f, 0.0f};
    if (token + row < m.tokens) {
      if (m.width % 4 == 0) {
        if (c < m.width) v = *(const float4*)from;
      } else {
        if (c < m.width) v.x = from[0];
        if (c + 1 < m.width) v.y = from[1];
        if (c + 2 < m.width) v.z = from[2];
        if (c + 3 < m.width) v.w = from[3];
      }
    }
    v = {operand(v.x), operand(v.y), operand(v.z), operand(v.w)};
    *(float4*)(tile + row * ld + at) = v;
  }
}

__device__ __forceinline__ float dot(float4 a, float4 b) {
  return a.x * b.x + a.y * b.y + a.z * b.z + a.w * b.w;
}

// sums += this warp's 16 rows of tile `rows`, times all rows of `columns`, over `depth` values.
__device__ __forceinline__ void add_scores(Sums sums[TILE / 8], const float* rows,
                                           const float* columns, int depth) {
  int g = threadIdx.x % 32 / 4, q = threadIdx.x % 4;
  rows += threadIdx.x / 32 * 16 * LD_ROWS;
#if TENSOR
  for (int k = 0; k < depth; k += 8) {
    const float* r = rows + g * LD_ROWS + k + q;
    unsigned a[4] = {__float_as_uint(r[0]), __float_as_uint(r[8 * LD_ROWS]), __float_as_uint(r[4]),
                     __float_as_uint(r[8 * LD_ROWS + 4])};
#pragma unroll
    for (int j = 0; j < TILE / 8; j++) {
      const float* c = columns + (8 * j + g) * LD_ROWS + k + q;
      unsigned b[2] = {__float_as_uint(c[0]), __float_as_uint(c[4])};
      mma_tf32(sums[j], a, b);
    }
  }
#else
#pragma unroll 1
  for (int k = 0; k < depth; k += 4) {
    float4 upper = *(const float4*)(rows + g * LD_ROWS + k);
    float4 lower = *(const float4*)(rows + (g + 8) * LD_ROWS + k);
#pragma unroll
    for (int j = 0; j < TILE / 8; j++) {
      const float* c = columns + (8 * j + 2 * q) * LD_ROWS + k;
      float4 even = *(const float4*)c, odd = *(const float4*)(c + LD_ROWS);
      sums[j][0] += dot(upper, even), sums[j][1] += dot(upper, odd);
      sums[j][2] += dot(lower, even), sums[j][3] += dot(lower, odd);
    }
  }
#endif
}

// sums += this warp's 16 rows of the weights, times CHUNK columns of the matrix; `depth` columns of
// the weights count.
__device__ __forceinline__ void add_product(Sums sums[CHUNK / 8], const float* weights,
                                            const float* matrix, int depth) {
  int g = threadIdx.x % 32 / 4, q = threadIdx.x % 4;
  weights += (threadIdx.x / 32 * 16 + g) * LD_WEIGHTS;
#if TENSOR
  for (int k = 0; k < depth; k += 8) {
    const float* w = weights + k + q;
    unsigned a[4] = {__float_as_uint(w[0]), __float_as_uint(w[8 * LD_WEIGHTS]),
                     __float_as_uint(w[4]), __float_as_uint(w[8 * LD_WEIGHTS + 4])};
#pragma unroll
    for (int j = 0; j < CHUNK / 8; j++) {
      const float* m = matrix + (k + q) * LD_MATRIX + 8 * j + g;
      unsigned b[2] = {__float_as_uint(m[0]), __float_as_uint(m[4 * LD_MATRIX])};
      mma_tf32(sums[j], a, b);
    }
  }
#else
#pragma unroll 2
  for (int k = 0; k < depth; k++) {
    float upper = weights[k], lower = weights[8 * LD_WEIGHTS + k];
#pragma unroll
    for (int j = 0; j < CHUNK / 8; j++) {
      float2 m = *(const float2*)(matrix + k * LD_MATRIX + 8 * j + 2 * q);
      sums[j][0] += upper * m.x, sums[j][1] += upper * m.y;
      sums[j][2] += lower * m.x, sums[j][3] += lower * m.y;
    }
  }
#endif
}

__device__ __forceinline__ int depth_of(int left, int most) { return min((left + 7) / 8 * 8, most); }

// scores = rows times columns, this block's tile of the first with one tile of the second.
__device__ __forceinline__ void make_scores(Sums scores[TILE / 8], const Shared& shared,
                                            const Tokens& rows, int row, const Tokens& columns,
                                            int column) {
#pragma unroll
  for (int j = 0; j < TILE / 8; j++)
    for (int i = 0; i < 4; i++) scores[j][i] = 0.0f;
  for (int c = 0; c < rows.width; c += CHUNK) {
    __syncthreads();
    load_tile(shared.rows, LD_ROWS, rows, row, c);
    load_tile(shared.columns, LD_ROWS, columns, column, c);
    __syncthreads();
    add_scores(scores, shared.rows, shared.columns, depth_of(rows.width - c, CHUNK));
  }
}

// result += weights times the matrix, from its token `token` and its column `column` on.
__device__ __forceinline__ void add_weighted(Sums result[WIDTH / 8], Sums weights[TILE / 8],
                                             const Shared& shared, const Tokens& matrix, int token,
                                             int column) {
  int g = threadIdx.x % 32 / 4, q = threadIdx.x % 4;
  float* to = shared.weights + (threadIdx.x / 32 * 16 + g) * LD_WEIGHTS + 2 * q;
#pragma unroll
  for (int j = 0; j < TILE / 8; j++) { // read by this warp alone
    *(float2*)(to + 8 * j) = {operand(weights[j][0]), operand(weights[j][1])};
    *(float2*)(to + 8 * LD_WEIGHTS + 8 * j) = {operand(weights[j][2]), operand(weights[j][3])};
  }
#pragma unroll
  for (int c = 0; c < WIDTH; c += CHUNK) {
    if (column + c >= matrix.width) break;
    __syncthreads();
    load_tile(shared.columns, LD_MATRIX, matrix, token, column + c);
    __syncthreads();
    add_product(result + c / 8, shared.weights, shared.columns,
                depth_of(matrix.tokens - token, TILE));
  }
}

// Over the 4 lanes that hold one row.
__device__ __forceinline__ float quad_sum(float x) {
  x += __shfl_xor_sync(FULL_WARP, x, 1);
  return x + __shfl_xor_sync(FULL_WARP, x, 2);
}

__device__ __forceinline__ float quad_max(float x) {
  x = fmaxf(x, __shfl_xor_sync(FULL_WARP, x, 1));
  return fmaxf(x, __shfl_xor_sync(FULL_WARP, x, 2));
}

// Where the arrays of this block's image and head are.
struct Place {
  int tokens, heads, width, part, head; // part, head: from q to k to v, from head to head

  __device__ __forceinline__ Tokens of_qkv(const float* qkv, int which) const {
    int stride = 3 * heads * width;
    size_t image = (size_t)blockIdx.z * tokens * stride;
    return {qkv + image + which * part + (int)blockIdx.y * head, stride, tokens, width};
  }
  __device__ __forceinline__ Tokens of_y(const float* y) const {
    int stride = heads * width;
    size_t image = (size_t)blockIdx.z * tokens * stride;
    return {y + image + (int)blockIdx.y * width, stride, tokens, width};
  }
  __device__ __forceinline__ size_t statistics() const { // lse and delta are (N, heads, L)
    return (size_t)(blockIdx.z * heads + blockIdx.y) * tokens;
  }
  __device__ __forceinline__ int first_row() const { return blockIdx.x % tiles() * TILE; }
  __device__ __forceinline__ int first_column() const { return blockIdx.x / tiles() * WIDTH; }
  __device__ __forceinline__ int tiles() const { return (tokens + TILE - 1) / TILE; }
};

__device__ __forceinline__ void store_result(const Tokens& to, Sums result[WIDTH / 8], int row,
                                             int column, const float factor[2]) {
  int g = threadIdx.x % 32 / 4, q = threadIdx.x % 4;
#pragma unroll
  for (int j = 0; j < WIDTH / 8; j++)
    for (int i = 0; i < 4; i++) {
      int token = row + threadIdx.x / 32 * 16 + g + 8 * (i / 2), c = column + 8 * j + 2 * q + i % 2;
      if (token < to.tokens && c < to.width)
        ((float*)to.data)[(size_t)token * to.stride + c] = factor[i / 2] * result[j][i];
    }
}

extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS)
forward(const float* ALIGNED qkv, float* y, float* lse, int tokens, int heads, int width, int part,
        int head, float scale) {
  SHARED_MEMORY;
  Place place = {tokens, heads, width, part, head};
  Tokens q = place.of_qkv(qkv, 0), k = place.of_qkv(qkv, 1), v = place.of_qkv(qkv, 2);
  int row = place.first_row(), column = place.first_column(), lane = threadIdx.x % 32;
  Sums result[WIDTH / 8] = {};
  float largest[2] = {NEVER, NEVER}, total[2] = {0.0f, 0.0f}; // of rows g and g + 8
  for (int key = 0; key < tokens; key += TILE) {
    Sums p[TILE / 8];
    make_scores(p, shared, q, row, k, key);
#pragma unroll
    for (int half = 0; half < 2; half++) {
      float most = NEVER;
#pragma unroll
      for (int j = 0; j < TILE / 8; j++)
        for (int i = 2 * half; i < 2 * half + 2; i++) {
          bool inside = key + 8 * j + 2 * (lane % 4) + i % 2 < tokens;
          p[j][i] = inside ? p[j][i] * scale : NEVER;
          most = fmaxf(most, p[j][i]);
        }
      most = fmaxf(largest[half], quad_max(most));
      float rescale = exp2f(largest[half] - most);
      largest[half] = most;
      total[half] *= rescale;
#pragma unroll
      for (int j = 0; j < TILE / 8; j++)
        for (int i = 2 * half; i < 2 * half + 2; i++) total[half] += p[j][i] = exp2f(p[j][i] - most);
#pragma unroll
      for (int j = 0; j < WIDTH / 8; j++)
        for (int i = 2 * half; i < 2 * half + 2; i++) result[j][i] *= rescale;
    }
    add_weighted(result, p, shared, v, key, column);
  }
  for (int half = 0; half < 2; half++) {
    total[half] = quad_sum(total[half]);
    int token = row + threadIdx.x / 32 * 16 + lane / 4 + 8 * half;
    if (column == 0 && lane % 4 == 0 && token < tokens)
      lse[place.statistics() + token] = largest[half] + log2f(total[half]);
    total[half] = 1.0f / total[half];
  }
  store_result(place.of_y(y), result, row, column, total);
}

// delta (N, heads, L): sum_D dy y. A warp takes one token of one head.
extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS)
row_products(const float* dy, const float* y, float* delta, int tokens, int heads, int width,
             int count) {
  int at = blockIdx.x * (THREADS / 32) + threadIdx.x / 32; // as in dy: (N, L, heads)
  if (at >= count) return;
  float sum = 0.0f;
  for (int d = threadIdx.x % 32; d < width; d += 32)
    sum += dy[(size_t)at * width + d] * y[(size_t)at * width + d];
  sum = warp_sum(sum);
  int head = at % heads, token = at / heads % tokens, image = at / heads / tokens;
  if (threadIdx.x % 32 == 0) delta[((size_t)image * heads + head) * tokens + token] = sum;
}

// What a backward pass multiplies. Where the queries are the columns of the weights, lse and delta
// go with the columns.
struct Pass {
  Tokens rows, columns;     // scores = rows columns^T
  Tokens d_rows, d_columns; // their gradient: d_rows d_columns^T
  Tokens matrix, result;    // result = weights matrix
  const float *lse, *delta; // (L,)
};

// The weights are ds where DERIVATIVE, else p.
template <bool QUERIES_ARE_ROWS, bool DERIVATIVE>
__device__ __forceinline__ void backward(const Pass& pass, const Shared& shared, const Place& place,
                                         float scale, float derivative_scale) {
  int row = place.first_row(), column = place.first_column(), lane = threadIdx.x % 32;
  Sums result[WIDTH / 8] = {};
  for (int other = 0; other < place.tokens; other += TILE) {
    Sums w[TILE / 8], dp[TILE / 8];
    make_scores(w, shared, pass.rows, row, pass.columns, other);
    if (DERIVATIVE) make_scores(dp, shared, pass.d_rows, row, pass.d_columns, other);
#pragma unroll
    for (int j = 0; j < TILE / 8; j++)
#pragma unroll
      for (int i = 0; i < 4; i++) {
        int query = QUERIES_ARE_ROWS ? row + threadIdx.x / 32 * 16 + lane / 4 + 8 * (i / 2)
                                     : other + 8 * j + 2 * (lane % 4) + i % 2;
        bool inside = query < place.tokens; // beyond, q and dy are zero, and so is what is added
        w[j][i] = exp2f(w[j][i] * scale - (inside ? pass.lse[query] : 0.0f));
        if (DERIVATIVE)
          w[j][i] *= (dp[j][i] - (inside ? pass.delta[query] : 0.0f)) * derivative_scale;
      }
    add_weighted(result, w, shared, pass.matrix, other, column);
  }
  const float one[2] = {1.0f, 1.0f};
  store_result(pass.result, result, row, column, one);
}

// dqkv is laid out like qkv; each of these writes its third of it.
extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS)
backward_q(const float* ALIGNED qkv, const float* ALIGNED dy, const float* lse, const float* delta,
           float* dqkv, int tokens, int heads, int width, int part, int head, float scale,
           float derivative_scale) {
  SHARED_MEMORY;
  Place place = {tokens, heads, width, part, head};
  Tokens q = place.of_qkv(qkv, 0), k = place.of_qkv(qkv, 1), v = place.of_qkv(qkv, 2);
  Tokens d = place.of_y(dy), result = place.of_qkv(dqkv, 0);
  lse += place.statistics(), delta += place.statistics();
  backward<true, true>({q, k, d, v, k, result, lse, delta}, shared, place, scale, derivative_scale);
}

extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS)
backward_k(const float* ALIGNED qkv, const float* ALIGNED dy, const float* lse, const float* delta,
           float* dqkv, int tokens, int heads, int width, int part, int head, float scale,
           float derivative_scale) {
  SHARED_MEMORY;
  Place place = {tokens, heads, width, part, head};
  Tokens q = place.of_qkv(qkv, 0), k = place.of_qkv(qkv, 1), v = place.of_qkv(qkv, 2);
  Tokens d = place.of_y(dy), result = place.of_qkv(dqkv, 1);
  lse += place.statistics(), delta += place.statistics();
  backward<false, true>({k, q, v, d, q, result, lse, delta}, shared, place, scale, derivative_scale);
}

extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS)
backward_v(const float* ALIGNED qkv, const float* ALIGNED dy, const float* lse, const float* delta,
           float* dqkv, int tokens, int heads, int width, int part, int head, float scale,
           float derivative_scale) {
  SHARED_MEMORY;
  Place place = {tokens, heads, width, part, head};
  Tokens q = place.of_qkv(qkv, 0), k = place.of_qkv(qkv, 1), v = place.of_qkv(qkv, 2);
  Tokens d = place.of_y(dy), result = place.of_qkv(dqkv, 2);
  lse += place.statistics(), delta += place.statistics();
  backward<false, false>({k, q, v, d, d, result, lse, delta}, shared, place, scale, derivative_scale);
}
