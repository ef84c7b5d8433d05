// Convolution, its transpose and its weight gradient as products of matrices that are gathered while
// they are multiplied, on tensor cores. OPERAND is bf16 or tf32; products are added up in
// float32. MULTIPLY is mma_bf16 or mma_tf32. RESULT, the type of y, is float, or bf16 of what a norm
// alone will read.
//
//     convolve          y[m, n]  = sum_k A[m, k] B[n, k] + bias[n] + residual[m, n]
//                       m: pixel of y, k: (tap, channel); an image may have a bias of its own,
//                       to_next_bias (0 or c_out) values behind that of the image before; pixels
//                       may share a row of the residual: to_next_residual, too, is 0 or c_out
//                       A = the source pixel that m meets at the tap, B = weight (c_out, taps, c_in)
//     weight_gradient   dw[m, n] = sum_k A[k, m] B[k, n]              m: (tap, channel), k: pixel of dy
//                       A = the source pixel that k meets at the tap, B = dy
//
// A block makes TILE_M × TILE_N values of the result, its WARPS_M × WARPS_N warps equal parts of it.
// K goes by in chunks, of two mma deep, through a ring of STAGES buffers: while one is multiplied,
// the next STAGES - 1 are on their way. Everything is copied in pieces of 16 bytes, and what lies
// outside (padding, past the end of K or of a row) is a piece of zeros, so that the product needs no
// conditions. Channels of operands are multiples of a piece (see operands.cu). Registers must suffice
// for BLOCKS on a multiprocessor.
#include "prims.cuh"
#include "gather.cuh"

constexpr int THREADS = 32 * WARPS_M * WARPS_N;
constexpr int WARP_M = TILE_M / WARPS_M, WARP_N = TILE_N / WARPS_N;
constexpr int PIECE = 16 / sizeof(OPERAND);     // elements
constexpr int MMA_K = 32 / sizeof(OPERAND);     // 16 or 8
constexpr int CHUNK_K = 2 * MMA_K;              // 64 bytes
constexpr int CHUNK_PIECES = CHUNK_K / PIECE;   // 4
constexpr int COPIES_M = TILE_M * CHUNK_PIECES / THREADS; // pieces that a thread copies, a chunk
constexpr int COPIES_N = TILE_N * CHUNK_PIECES / THREADS;
static_assert(COPIES_M * THREADS == TILE_M * CHUNK_PIECES, "threads must share the copies of A");
static_assert(COPIES_N * THREADS == TILE_N * CHUNK_PIECES, "threads must share the copies of B");
static_assert(WARP_M % 16 == 0 && WARP_N % 16 == 0, "a warp's part is made of mma tiles");

// A warp's part of the result, as mma_* holds it.
struct Sums {
  float at[WARP_M / 16][WARP_N / 8][4];
};

// What one mma step needs of A and B.
struct Factors {
  unsigned a[WARP_M / 16][4], b[WARP_N / 16][4]; // of B, two mma to a row
};

// Where the warp's part begins in the block's.
__device__ __forceinline__ int warp_m() { return threadIdx.x / 32 % WARPS_M * WARP_M; }
__device__ __forceinline__ int warp_n() { return threadIdx.x / 32 / WARPS_M * WARP_N; }

__device__ __forceinline__ void multiply(Sums& sums, const Factors& f) {
#pragma unroll
  for (int i = 0; i < WARP_M / 16; i++)
#pragma unroll
    for (int j = 0; j < WARP_N / 8; j++) MULTIPLY(sums.at[i][j], f.a[i], f.b[j / 2] + j % 2 * 2);
}

// copy(chunk, buffer) starts a thread's copies, in the order of the chunks; add(buffer) multiplies.
template <class Copy, class Add>
__device__ __forceinline__ void for_each_chunk(int chunks, Copy copy, Add add) {
  for (int chunk = 0; chunk < STAGES - 1; chunk++) {
    if (chunk < chunks) copy(chunk, chunk);
    copy_commit();
  }
  for (int chunk = 0; chunk < chunks; chunk++) {
    copy_wait<STAGES - 2>(); // this thread's part of `chunk` is there
    __syncthreads();         // everyone's is, and everyone has done with the buffer filled next
    int next = chunk + STAGES - 1;
    if (next < chunks) copy(next, next % STAGES);
    copy_commit(); // also if empty: copy_wait counts
    add(chunk % STAGES);
  }
}

// visit(row, column, value at column, value at column + 1) for all that the thread holds.
template <class Visit> __device__ __forceinline__ void for_each_pair(const Sums& sums, Visit visit) {
  int lane = threadIdx.x % 32;
#pragma unroll
  for (int i = 0; i < WARP_M / 16; i++)
#pragma unroll
    for (int half = 0; half < 2; half++)
#pragma unroll
      for (int j = 0; j < WARP_N / 8; j++) {
        const float* at = sums.at[i][j] + 2 * half;
        visit(warp_m() + 16 * i + 8 * half + lane / 4, warp_n() + 8 * j + lane % 4 * 2, at[0], at[1]);
      }
}

// Adds one or two values of a row that has `columns`.
__device__ __forceinline__ void add_pair(float& v0, float& v1, const float* row, int column, int columns) {
  v0 += row[column];
  if (column + 1 < columns) v1 += row[column + 1];
}

template <class T> struct __align__(2 * sizeof(T)) Pair {
  T at[2];
};

// Writes one or two values of a row that has `columns`.
template <class T>
__device__ __forceinline__ void store_pair(T* row, int column, int columns, float v0, float v1) {
  Pair<T> pair = {rounded<T>(v0), rounded<T>(v1)};
  if (columns % 2 == 0 && column < columns) {
    *(Pair<T>*)(row + column) = pair;
  } else {
    if (column < columns) row[column] = pair.at[0];
    if (column + 1 < columns) row[column + 1] = pair.at[1];
  }
}

// Channels in a run. K of convolve, and M of weight_gradient, are in this order: the channels of a
// run, then the taps of these channels, then the next run. The taps of a few channels meet much the
// same pixels, which are still in the first cache. Where channels are no multiple of a chunk, all of
// them are one run.
__device__ __forceinline__ int run_of(int channels) {
  return channels % CHUNK_K ? channels : CHUNK_K;
}

// ---- convolve: in shared memory, a row of A or B is the chunk's K for one m or n: 64 bytes, without
// a gap, so that the two rows that eight threads write at once lie in different banks. Pieces change
// places from one pair of rows to the next, and so do the eight that a matrix is loaded from.

constexpr int PITCH = 64;

__device__ __forceinline__ int place_of_piece(int row, int piece) {
  return row * PITCH + 16 * (piece ^ row / 2 % 4);
}

// Where, in bytes, a thread's matrices of the first step begin in A and B; of the second, that is
// exchanged by 32.
__device__ __forceinline__ int first_of_a() {
  int lane = threadIdx.x % 32;
  return place_of_piece(warp_m() + lane % 16, lane / 16);
}

__device__ __forceinline__ int first_of_b() {
  int lane = threadIdx.x % 32;
  return place_of_piece(warp_n() + lane / 16 * 8 + lane % 8, lane / 8 % 2);
}

__device__ __forceinline__ void load_rows(Factors& f, const unsigned char* a, const unsigned char* b) {
#pragma unroll
  for (int i = 0; i < WARP_M / 16; i++) load_matrices(f.a[i], a + 16 * i * PITCH);
#pragma unroll
  for (int j = 0; j < WARP_N / 16; j++) load_matrices(f.b[j], b + 16 * j * PITCH);
}

// A row of A: the source pixel that it meets at its first tap. It may lie outside, as a copy of no
// bytes may: such an address is never read.
struct Row {
  const OPERAND* from;
  int y, x;
};

constexpr int NOWHERE = -(1 << 30); // far from every tap

// Where in K a thread's piece is.
struct Place {
  int channel, end, tx, ty; // end: of the run
};

__device__ __forceinline__ void advance(Place& k, int channels, int run, int c_in, const Gather& g) {
  for (k.channel += channels; k.channel >= k.end; k.channel -= run) {
    if (++k.tx < g.x.taps) continue;
    k.tx = 0;
    if (++k.ty < g.y.taps || k.end >= c_in) continue;
    k.ty = 0;
    k.channel += run, k.end += run;
  }
}

extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS)
convolve(const OPERAND* ALIGNED x, const OPERAND* ALIGNED weight, const float* bias,
         const float* residual, RESULT* ALIGNED y, int to_next_bias, int to_next_residual,
         int transpose, int images, int in_h, int in_w, int c_in, int out_h, int out_w, int c_out,
         int kh, int kw, int stride, int before) {
  DYNAMIC_SHARED(shared);
  Gather g = {axis_of(transpose, out_h, kh, stride, before, blockIdx.z / stride),
              axis_of(transpose, out_w, kw, stride, before, blockIdx.z % stride),
              images, in_h, in_w};
  int tiles_n = (c_out + TILE_N - 1) / TILE_N;
  int m0 = blockIdx.x / tiles_n * TILE_M, n0 = blockIdx.x % tiles_n * TILE_N;
  if (m0 >= results(g)) return; // a smaller phase than the first

  constexpr int ROWS = THREADS / CHUNK_PIECES; // rows that are copied at once
  static_assert(ROWS % 8 == 0, "a thread's pieces must have the same place in each of its rows");
  int row = threadIdx.x / CHUNK_PIECES, piece = threadIdx.x % CHUNK_PIECES, depth = kh * kw * c_in;
  Row rows[COPIES_M];
#pragma unroll
  for (int i = 0; i < COPIES_M; i++) {
    Result r = result(g, m0 + row + ROWS * i);
    rows[i].y = g.y.scale * r.y + g.y.first, rows[i].x = g.x.scale * r.x + g.x.first;
    rows[i].from = x + ((long long)(r.image * in_h + rows[i].y) * in_w + rows[i].x) * c_in;
    if (r.image >= images) rows[i].y = NOWHERE;
  }
  int run = run_of(c_in), in_buffer = place_of_piece(row, piece);
  Place k = {0, run, 0, 0};
  advance(k, piece * PIECE, run, c_in, g);

  auto copy = [&](int, int buffer) {
    unsigned char* a = shared + buffer * (TILE_M + TILE_N) * PITCH + in_buffer;
    unsigned char* b = a + TILE_M * PITCH;
    bool in_k = k.ty < g.y.taps;
    int dy = g.y.step * k.ty, dx = g.x.step * k.tx, to_tap = (dy * in_w + dx) * c_in + k.channel;
#pragma unroll
    for (int i = 0; i < COPIES_M; i++) {
      bool is = in_k & inside(g, rows[i].y + dy, rows[i].x + dx);
      copy_async_16_again(a + ROWS * i * PITCH, rows[i].from + to_tap, is ? 16 : 0);
    }
    int tap = (g.y.tap + g.y.tap_step * k.ty) * kw + g.x.tap + g.x.tap_step * k.tx;
    const OPERAND* of_tap = weight + tap * c_in + k.channel;
#pragma unroll
    for (int i = 0; i < COPIES_N; i++) {
      int n = n0 + row + ROWS * i;
      bool is = in_k & (n < c_out);
      copy_async_16(b + ROWS * i * PITCH, of_tap + (size_t)n * depth, is ? 16 : 0);
    }
    advance(k, CHUNK_K, run, c_in, g);
  };

  Sums sums = {};
  int of_a = first_of_a(), of_b = first_of_b();
  auto add = [&](int buffer) {
    const unsigned char* a = shared + buffer * (TILE_M + TILE_N) * PITCH;
    Factors f;
#pragma unroll
    for (int step = 0; step < 2; step++) {
      load_rows(f, a + (of_a ^ 32 * step), a + TILE_M * PITCH + (of_b ^ 32 * step));
      multiply(sums, f);
    }
  };
  for_each_chunk((g.y.taps * g.x.taps * c_in + CHUNK_K - 1) / CHUNK_K, copy, add);

  for_each_pair(sums, [&](int m, int n, float v0, float v1) {
    Result r = result(g, m0 + m);
    n += n0;
    if (r.image >= images || n >= c_out) return;
    size_t pixel = result_pixel(g, r, out_h, out_w);
    if (bias) add_pair(v0, v1, bias + to_next_bias * (size_t)r.image, n, c_out);
    if (residual) add_pair(v0, v1, residual + to_next_residual * pixel, n, c_out);
    store_pair(y + c_out * pixel, n, c_out, v0, v1);
  });
}

// ---- weight_gradient: in shared memory, a row of A or B is one k with the tile's m or n. The
// pitches keep apart what is loaded at once: eight rows of 16 bytes, or four of 32.

constexpr int PITCH_A = TILE_M * sizeof(OPERAND) + 8 * sizeof(OPERAND);
constexpr int PITCH_B = TILE_N * sizeof(OPERAND) + 8 * sizeof(OPERAND);
constexpr int GRADIENT_BUFFER = CHUNK_K * (PITCH_A + PITCH_B);

__device__ __forceinline__ const OPERAND* element(const unsigned char* at, int pitch, int k, int m) {
  return (const OPERAND*)(at + k * pitch) + m;
}

__device__ __forceinline__ void load_columns(Factors& f, const unsigned char* a,
                                             const unsigned char* b, int step) {
  int lane = threadIdx.x % 32, k = step * MMA_K;
  if constexpr (sizeof(OPERAND) == 2) {
    const OPERAND* row_a =
        element(a, PITCH_A, k + lane / 16 * 8 + lane % 8, warp_m() + lane / 8 % 2 * 8);
    const OPERAND* row_b =
        element(b, PITCH_B, k + lane / 8 % 2 * 8 + lane % 8, warp_n() + lane / 16 * 8);
#pragma unroll
    for (int i = 0; i < WARP_M / 16; i++) load_matrices_transposed(f.a[i], row_a + 16 * i);
#pragma unroll
    for (int j = 0; j < WARP_N / 16; j++) load_matrices_transposed(f.b[j], row_b + 16 * j);
  } else {
    const OPERAND* at_a = element(a, PITCH_A, k + lane % 4, warp_m() + lane / 4);
    const OPERAND* at_b = element(b, PITCH_B, k + lane % 4, warp_n() + lane / 4);
#pragma unroll
    for (int i = 0; i < WARP_M / 16; i++)
#pragma unroll
      for (int q = 0; q < 4; q++)
        f.a[i][q] = at_a[q / 2 * 4 * (PITCH_A / 4) + 16 * i + q % 2 * 8];
#pragma unroll
    for (int j = 0; j < WARP_N / 16; j++)
#pragma unroll
      for (int q = 0; q < 4; q++)
        f.b[j][q] = at_b[q % 2 * 4 * (PITCH_B / 4) + 16 * j + q / 2 * 8];
  }
}

// What a number in M stands for; beyond the end of M, a channel beyond c_in.
struct Weight {
  int tap, channel;
};

__device__ __forceinline__ Weight weight_of(int m, int taps, int run) {
  int of_run = m % (taps * run);
  return {of_run / run, m / (taps * run) * run + of_run % run};
}

// Block z adds up its share of the pixels into partial[z], (kh, kw, channels_in, channels_out), of
// which x and dy have c_in and c_out with their padding.
extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS)
weight_gradient(const OPERAND* ALIGNED x, const OPERAND* ALIGNED dy, float* ALIGNED partial, int images,
                int in_h, int in_w, int c_in, int channels_in, int out_h, int out_w, int c_out,
                int channels_out, int kh, int kw, int stride, int before) {
  DYNAMIC_SHARED(shared);
  Gather g = {axis_of(false, out_h, kh, stride, before, 0), axis_of(false, out_w, kw, stride, before, 0),
              images, in_h, in_w};
  int tiles_n = (c_out + TILE_N - 1) / TILE_N;
  int m0 = blockIdx.x / tiles_n * TILE_M, n0 = blockIdx.x % tiles_n * TILE_N;
  int chunks = (results(g) + CHUNK_K - 1) / CHUNK_K, share = (chunks + gridDim.z - 1) / gridDim.z;
  int first = min((int)blockIdx.z * share, chunks), last = min(first + share, chunks);

  constexpr int PIECES_M = TILE_M / PIECE, PIECES_N = TILE_N / PIECE;
  constexpr int ROWS_M = THREADS / PIECES_M, ROWS_N = THREADS / PIECES_N; // copied at once
  int row_m = threadIdx.x / PIECES_M, m = threadIdx.x % PIECES_M * PIECE;
  int row_n = threadIdx.x / PIECES_N, n = threadIdx.x % PIECES_N * PIECE;
  int run = run_of(c_in), taps = kh * kw;
  Weight w = weight_of(m0 + m, taps, run);
  int tx = w.tap % kw, ty = w.channel < c_in ? w.tap / kw : NOWHERE;
  Result by = result(g, CHUNK_K), pixels[COPIES_M];
#pragma unroll
  for (int i = 0; i < COPIES_M; i++) pixels[i] = result(g, first * CHUNK_K + row_m + ROWS_M * i);

  auto copy = [&](int chunk, int buffer) {
    unsigned char* a = shared + buffer * GRADIENT_BUFFER;
    unsigned char* b = a + CHUNK_K * PITCH_A;
    int k0 = (first + chunk) * CHUNK_K;
#pragma unroll
    for (int i = 0; i < COPIES_M; i++) {
      int row = row_m + ROWS_M * i, pixel = source_pixel(g, pixels[i], ty, tx);
      const OPERAND* from = x + (size_t)pixel * c_in + w.channel;
      copy_async_16_again(a + row * PITCH_A + m * sizeof(OPERAND), from, pixel < 0 ? 0 : 16);
      pixels[i] = plus(g, pixels[i], by);
    }
#pragma unroll
    for (int i = 0; i < COPIES_N; i++) {
      int row = row_n + ROWS_N * i;
      bool is = (k0 + row < results(g)) & (n0 + n < c_out);
      const OPERAND* from = dy + (size_t)(k0 + row) * c_out + n0 + n;
      copy_async_16(b + row * PITCH_B + n * sizeof(OPERAND), from, is ? 16 : 0);
    }
  };

  Sums sums = {};
  auto add = [&](int buffer) {
    const unsigned char* a = shared + buffer * GRADIENT_BUFFER;
    Factors f;
#pragma unroll
    for (int step = 0; step < 2; step++) {
      load_columns(f, a, a + CHUNK_K * PITCH_A, step);
      multiply(sums, f);
    }
  };
  for_each_chunk(last - first, copy, add);

  float* mine = partial + (size_t)blockIdx.z * kh * kw * channels_in * channels_out;
  for_each_pair(sums, [&](int m, int n, float v0, float v1) {
    Weight w = weight_of(m0 + m, taps, run);
    if (w.channel >= channels_in) return;
    size_t row = (size_t)w.tap * channels_in + w.channel;
    store_pair(mine + row * channels_out, n0 + n, channels_out, v0, v1);
  });
}
