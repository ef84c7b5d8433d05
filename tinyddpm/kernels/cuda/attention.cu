// Multi-head self-attention, twin of ops/attention.py, which never stores the L^2 probabilities
// (Dao et al. 2022, arXiv 2205.14135). For each image and head, with head width D,
//
//   forward    s = q k^T / sqrt D      lse = log sum exp s      p = exp(s - lse)      y = p v
//   backward   delta = sum_D dy y      ds = p (dy v^T - delta) / sqrt D
//              dq = ds k               dk = ds^T q              dv = p^T dy
//
// Each result is weights times a matrix, and is made in one way: a block owns TILE rows of the
// result, goes through the columns of the weights COLUMNS at a time, makes these weights (anew in
// the backward, from lse), and adds weights times matrix. The largest score is not known before the
// end: the softmax is relative to the largest so far, and what was added is scaled when that grows.
//
// Powers are of two: scores are multiplied by log2(e), and lse is a logarithm to base 2.
//
// WIDTH columns of a result fit into a block's registers; wider heads are cut into several blocks.
#include "attention_tiles.cuh"

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
    return {qkv + image + which * part + number() * head, stride, tokens, width};
  }
  __device__ __forceinline__ Tokens of_y(const float* y) const {
    int stride = heads * width;
    size_t image = (size_t)blockIdx.z * tokens * stride;
    return {y + image + number() * width, stride, tokens, width};
  }
  __device__ __forceinline__ size_t statistics() const { // lse and delta are (N, heads, L)
    return (size_t)(blockIdx.z * heads + number()) * tokens;
  }
  __device__ __forceinline__ int number() const { return blockIdx.y % heads; } // of the head
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
attention_forward(const float* ALIGNED qkv, float* y, float* lse, int tokens, int heads,
                  int width, int part, int head, float scale) {
  SHARED_MEMORY;
  Place place = {tokens, heads, width, part, head};
  Tokens q = place.of_qkv(qkv, 0), k = place.of_qkv(qkv, 1), v = place.of_qkv(qkv, 2);
  int row = place.first_row(), column = place.first_column(), lane = threadIdx.x % 32;
  Sums result[WIDTH / 8] = {};
  float largest[2] = {NEVER, NEVER}, total[2] = {0.0f, 0.0f}; // of rows g and g + 8
  for (int key = 0; key < tokens; key += COLUMNS) {
    Sums p[COLUMNS / 8];
    make_scores(p, shared, q, row, k, key);
#pragma unroll
    for (int half = 0; half < 2; half++) {
      float most = NEVER;
#pragma unroll
      for (int j = 0; j < COLUMNS / 8; j++)
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
      for (int j = 0; j < COLUMNS / 8; j++)
        for (int i = 2 * half; i < 2 * half + 2; i++) {
          p[j][i] = exp2f(p[j][i] - most);
          total[half] += p[j][i];
        }
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
attention_row_products(const float* dy, const float* y, float* delta, int tokens, int heads,
                       int width, int count) {
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
__device__ __forceinline__ void backward(const Pass& pass, float* shared, const Place& place,
                                         float scale, float derivative_scale) {
  int row = place.first_row(), column = place.first_column(), lane = threadIdx.x % 32;
  Sums result[WIDTH / 8] = {};
  for (int other = 0; other < place.tokens; other += COLUMNS) {
    Sums w[COLUMNS / 8], dp[COLUMNS / 8];
    make_scores(w, shared, pass.rows, row, pass.columns, other);
    if (DERIVATIVE) make_scores(dp, shared, pass.d_rows, row, pass.d_columns, other);
#pragma unroll
    for (int j = 0; j < COLUMNS / 8; j++)
#pragma unroll
      for (int i = 0; i < 4; i++) {
        int r = row + threadIdx.x / 32 * 16 + lane / 4 + 8 * (i / 2);
        int c = other + 8 * j + 2 * (lane % 4) + i % 2, query = QUERIES_ARE_ROWS ? r : c;
        bool inside = r < place.tokens && c < place.tokens;
        w[j][i] = inside ? exp2f(w[j][i] * scale - pass.lse[query]) : 0.0f;
        if (DERIVATIVE)
          w[j][i] *= (dp[j][i] - (inside ? pass.delta[query] : 0.0f)) * derivative_scale;
      }
    add_weighted(result, w, shared, pass.matrix, other, column);
  }
  const float one[2] = {1.0f, 1.0f};
  store_result(pass.result, result, row, column, one);
}

// dqkv is laid out like qkv. A block makes a part of dq, of dk or of dv: of all heads' dq come first,
// then of all dk, then of all dv, so that the three fill the card together.
extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS)
attention_backward(const float* ALIGNED qkv, const float* ALIGNED dy, const float* lse,
                   const float* delta, float* dqkv, int tokens, int heads, int width, int part,
                   int head, float scale, float derivative_scale) {
  SHARED_MEMORY;
  Place place = {tokens, heads, width, part, head};
  Tokens q = place.of_qkv(qkv, 0), k = place.of_qkv(qkv, 1), v = place.of_qkv(qkv, 2);
  int which = blockIdx.y / heads;
  Tokens d = place.of_y(dy), result = place.of_qkv(dqkv, which);
  lse += place.statistics(), delta += place.statistics();
  if (which == 0)
    backward<true, true>({q, k, d, v, k, result, lse, delta}, shared, place, scale, derivative_scale);
  else if (which == 1)
    backward<false, true>({k, q, v, d, q, result, lse, delta}, shared, place, scale, derivative_scale);
  else
    backward<false, false>({k, q, v, d, d, result, lse, delta}, shared, place, scale, derivative_scale);
}
