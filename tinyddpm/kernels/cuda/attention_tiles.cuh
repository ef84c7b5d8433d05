// The products that attention is made of: scores = rows columns^T, and result += weights matrix, on
// tiles in shared memory.
//
// A warp owns 16 rows. All products leave their sums where mma leaves them (see prims.cuh), with
// g = lane / 4 and q = lane % 4: rows g and g + 8, columns 8 j + 2 q and the next. The tensor cores
// compute them in TF32 where TENSOR is 1, else fused multiply-adds do.
#include "prims.cuh"

#define TILE 64     // rows of a block
#define THREADS 128 // TILE / 16 warps
#define COLUMNS 32  // of the weights that are made at a time
#define BLOCKS (WIDTH <= 64 ? 3 : 2)    // on a multiprocessor, as their registers allow
#define CHUNK (WIDTH < 32 ? WIDTH : 32) // of a head's columns are in shared memory at a time
#define NEVER (-1e30f)                  // a score whose exponential is 0

// Leading dimensions that spread what a warp reads at once over the banks.
#define LD_ROWS (CHUNK + 4)
#define LD_MATRIX (CHUNK + 8)
#define LD_WEIGHTS (COLUMNS + 4)

typedef float Sums[4]; // of one 16 x 8 product

// q, k, v or another array of one image and head: L tokens, D wide.
struct Tokens {
  const float* data;
  int stride, tokens, width;
};

// Two stages: while one is multiplied, the next tiles arrive in the other. A stage is
//   rows (TILE, LD_ROWS), columns (COLUMNS, LD_ROWS) or matrix (COLUMNS, LD_MATRIX)
#define STAGE (TILE * LD_ROWS + COLUMNS * LD_MATRIX)
#define SHARED_MEMORY __shared__ __align__(16) float shared[2 * STAGE + TILE * LD_WEIGHTS]

__device__ __forceinline__ float* rows_of(float* shared, int stage) {
  return shared + stage * STAGE;
}

__device__ __forceinline__ float* columns_of(float* shared, int stage) {
  return rows_of(shared, stage) + TILE * LD_ROWS;
}

// COUNT tokens and CHUNK columns of m, zero beyond its ends; 16 bytes at a time where rows allow.
template <int COUNT>
__device__ __forceinline__ void copy_tile(float* tile, int ld, const Tokens& m, int token,
                                          int column) {
  constexpr int PIECES = CHUNK / 4, ROWS = THREADS / PIECES; // rows that are copied at once
  int row = threadIdx.x / PIECES, at = threadIdx.x % PIECES * 4;
  const float* from = m.data + (size_t)(token + row) * m.stride + column + at;
  float* to = tile + row * ld + at;
  int tokens = m.tokens - token, width = m.width - column - at, next = ROWS * m.stride;
  if (m.width % 4 == 0) {
#pragma unroll 1
    for (; row < COUNT; row += ROWS, from += next, to += ROWS * ld)
      copy_async_16(to, from, row < tokens & width > 0 ? 16 : 0); // beyond the ends, no bytes
  } else {
#pragma unroll 1
    for (; row < COUNT; row += ROWS, from += next, to += ROWS * ld)
      for (int e = 0; e < 4; e++) to[e] = row < tokens & width > e ? from[e] : 0.0f;
  }
}

// Rounded to TF32 where the tensor cores multiply.
__device__ __forceinline__ float rounded_factor(float x) {
  return TENSOR ? to_float(to_tf32(x)) : x;
}

// load_matrices of floats, each rounded to TF32.
__device__ __forceinline__ void load_factors(tf32 r[4], const float* row) {
  load_matrices(r, row);
#pragma unroll
  for (int i = 0; i < 4; i++) r[i] = to_tf32(to_float(r[i]));
}

__device__ __forceinline__ float dot(float4 a, float4 b) {
  return a.x * b.x + a.y * b.y + a.z * b.z + a.w * b.w;
}

// sums += this warp's 16 rows of tile `rows`, times all rows of `columns`, over `depth` values.
__device__ __forceinline__ void add_scores(Sums sums[COLUMNS / 8], const float* rows,
                                           const float* columns, int depth) {
  rows += threadIdx.x / 32 * 16 * LD_ROWS;
#if TENSOR
  int lane = threadIdx.x % 32;
  rows += lane % 16 * LD_ROWS + lane / 16 * 4;
  columns += (lane / 16 * 8 + lane % 8) * LD_ROWS + lane / 8 % 2 * 4;
#pragma unroll 2
  for (int k = 0; k < depth; k += 8) {
    tf32 a[4], b[4];
    load_factors(a, rows + k);
#pragma unroll
    for (int j = 0; j < COLUMNS / 8; j += 2) {
      load_factors(b, columns + 8 * j * LD_ROWS + k);
      mma_tf32(sums[j], a, b);
      mma_tf32(sums[j + 1], a, b + 2);
    }
  }
#else
  int g = threadIdx.x % 32 / 4, q = threadIdx.x % 4;
#pragma unroll 1
  for (int k = 0; k < depth; k += 4) {
    float4 upper = *(const float4*)(rows + g * LD_ROWS + k);
    float4 lower = *(const float4*)(rows + (g + 8) * LD_ROWS + k);
#pragma unroll
    for (int j = 0; j < COLUMNS / 8; j++) {
      const float* c = columns + (8 * j + 2 * q) * LD_ROWS + k;
      float4 even = *(const float4*)c, odd = *(const float4*)(c + LD_ROWS);
      sums[j][0] += dot(upper, even), sums[j][1] += dot(upper, odd);
      sums[j][2] += dot(lower, even), sums[j][3] += dot(lower, odd);
    }
  }
#endif
}

// sums += this warp's 16 rows of the weights, rounded already, times CHUNK columns of the
// matrix; `depth` columns of the weights count.
__device__ __forceinline__ void add_product(Sums sums[CHUNK / 8], const float* weights,
                                            const float* matrix, int depth) {
  int g = threadIdx.x % 32 / 4, q = threadIdx.x % 4;
  weights += threadIdx.x / 32 * 16 * LD_WEIGHTS;
#if TENSOR
  weights += threadIdx.x % 16 * LD_WEIGHTS + threadIdx.x % 32 / 16 * 4;
#pragma unroll 2
  for (int k = 0; k < depth; k += 8) {
    tf32 a[4];
    load_matrices(a, weights + k);
#pragma unroll
    for (int j = 0; j < CHUNK / 8; j++) {
      const float* m = matrix + (k + q) * LD_MATRIX + 8 * j + g;
      unsigned b[2] = {to_tf32(m[0]), to_tf32(m[4 * LD_MATRIX])};
      mma_tf32(sums[j], a, b);
    }
  }
#else
  weights += g * LD_WEIGHTS;
#pragma unroll 1
  for (int k = 0; k < depth; k += 4) {
    const float4 upper = *(const float4*)(weights + k);
    const float4 lower = *(const float4*)(weights + 8 * LD_WEIGHTS + k);
    const float u[4] = {upper.x, upper.y, upper.z, upper.w};
    const float l[4] = {lower.x, lower.y, lower.z, lower.w};
#pragma unroll
    for (int i = 0; i < 4; i++)
#pragma unroll
      for (int j = 0; j < CHUNK / 8; j++) {
        float2 m = *(const float2*)(matrix + (k + i) * LD_MATRIX + 8 * j + 2 * q);
        sums[j][0] += u[i] * m.x, sums[j][1] += u[i] * m.y;
        sums[j][2] += l[i] * m.x, sums[j][3] += l[i] * m.y;
      }
  }
#endif
}

// How much of `most` is left, in whole steps of the tensor cores.
__device__ __forceinline__ int depth_of(int left, int most) {
  return min((left + 7) / 8 * 8, most);
}

// scores = rows times columns, this block's tile of the first with one tile of the second.
__device__ __forceinline__ void make_scores(Sums scores[COLUMNS / 8], float* shared,
                                            const Tokens& rows, int row, const Tokens& columns,
                                            int column) {
#pragma unroll
  for (int j = 0; j < COLUMNS / 8; j++)
    for (int i = 0; i < 4; i++) scores[j][i] = 0.0f;
  auto copy = [&](int stage, int c) {
    if (c < rows.width) {
      copy_tile<TILE>(rows_of(shared, stage), LD_ROWS, rows, row, c);
      copy_tile<COLUMNS>(columns_of(shared, stage), LD_ROWS, columns, column, c);
    }
    copy_commit();
  };
  copy(0, 0);
  int stage = 0;
  for (int c = 0; c < rows.width; c += CHUNK) {
    copy(1 - stage, c + CHUNK);
    copy_wait<1>();
    __syncthreads(); // everyone's part of this stage is there
    add_scores(scores, rows_of(shared, stage), columns_of(shared, stage),
               depth_of(rows.width - c, CHUNK));
    __syncthreads(); // and nobody needs it any more
    stage = 1 - stage;
  }
}

// result += weights times the matrix, from its token `token` and its column `column` on.
__device__ __forceinline__ void add_weighted(Sums result[WIDTH / 8], Sums weights[COLUMNS / 8],
                                             float* shared, const Tokens& matrix, int token,
                                             int column) {
  int g = threadIdx.x % 32 / 4, q = threadIdx.x % 4;
  float* table = shared + 2 * STAGE;
  float* to = table + (threadIdx.x / 32 * 16 + g) * LD_WEIGHTS + 2 * q;
#pragma unroll
  for (int j = 0; j < COLUMNS / 8; j++) { // read by this warp alone
    const float* w = weights[j];
    *(float2*)(to + 8 * j) = {rounded_factor(w[0]), rounded_factor(w[1])};
    *(float2*)(to + 8 * LD_WEIGHTS + 8 * j) = {rounded_factor(w[2]), rounded_factor(w[3])};
  }
  auto copy = [&](int c) {
    if (c < WIDTH && column + c < matrix.width)
      copy_tile<COLUMNS>(columns_of(shared, c / CHUNK % 2), LD_MATRIX, matrix, token, column + c);
    copy_commit();
  };
  copy(0);
#pragma unroll
  for (int c = 0; c < WIDTH; c += CHUNK) {
    if (column + c >= matrix.width) break;
    copy(c + CHUNK);
    copy_wait<1>();
    __syncthreads(); // everyone's part of this chunk is there
    add_product(result + c / 8, table, columns_of(shared, c / CHUNK % 2),
                depth_of(matrix.tokens - token, COLUMNS));
    __syncthreads(); // and nobody needs it any more
  }
}
