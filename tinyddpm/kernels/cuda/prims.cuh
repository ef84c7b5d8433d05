// What CUDA C cannot say without inline PTX: the only file that holds any. Behind each primitive of
// the GPU stands its portable twin, which the simulator of the tests compiles instead.
//
// Fragments of mma_*, by lane l (g = l / 4, q = l % 4), as in the PTX manual:
//   m16n8k16 bf16, two of consecutive k to a register, the lower k in the lower half
//     a[0] A[g][2q..]  a[1] A[g+8][2q..]  a[2] A[g][2q+8..]  a[3] A[g+8][2q+8..]
//     b[0] B[2q..][g]  b[1] B[2q+8..][g]
//   m16n8k8 tf32
//     a[0] A[g][q]  a[1] A[g+8][q]  a[2] A[g][q+4]  a[3] A[g+8][q+4]
//     b[0] B[q][g]  b[1] B[q+4][g]
//   both
//     c[0] C[g][2q]  c[1] C[g][2q+1]  c[2] C[g+8][2q]  c[3] C[g+8][2q+1]
#define ALIGNED // of a pointer parameter: divisible by 16, which the launch checks
#define FULL_WARP 0xffffffffu

typedef unsigned short bf16; // the bits
typedef unsigned tf32;       // the bits, those of a float with 10 bits of fraction

__device__ __forceinline__ float to_float(bf16 x) { return __uint_as_float((unsigned)x << 16); }
__device__ __forceinline__ float to_float(tf32 x) { return __uint_as_float(x); }
__device__ __forceinline__ float to_float(float x) { return x; }

#ifdef __CUDACC__

#define DYNAMIC_SHARED(name) extern __shared__ __align__(128) unsigned char name[]

__device__ __forceinline__ unsigned shared_address(const void* p) {
  return (unsigned)__cvta_generic_to_shared(p);
}

// Rounds to nearest, ties to even.
__device__ __forceinline__ bf16 to_bf16(float x) {
  bf16 bits;
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(bits) : "f"(x));
  return bits;
}

// Rounds to nearest, ties away from zero, to 10 bits of fraction; mma_tf32 would truncate.
__device__ __forceinline__ tf32 to_tf32(float x) {
  tf32 bits;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(x));
  return bits;
}

// 16 bytes from global to shared memory, both aligned: the first `bytes` of them, then zeros.
// They are there after copy_commit and copy_wait, to this thread; to others after a barrier.
__device__ __forceinline__ void copy_async_16(void* to, const void* from, int bytes) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;"
               :: "r"(shared_address(to)), "l"(from), "r"(bytes) : "memory");
}

// The same, and the multiprocessor keeps what it fetched, for whoever comes for it again.
__device__ __forceinline__ void copy_async_16_again(void* to, const void* from, int bytes) {
  asm volatile("cp.async.ca.shared.global [%0], [%1], 16, %2;"
               :: "r"(shared_address(to)), "l"(from), "r"(bytes) : "memory");
}

__device__ __forceinline__ void copy_commit() {
  asm volatile("cp.async.commit_group;" ::: "memory");
}

// Until all but the PENDING latest groups have arrived.
template <int PENDING> __device__ __forceinline__ void copy_wait() {
  asm volatile("cp.async.wait_group %0;" :: "n"(PENDING) : "memory");
}

// Four 8×8 matrices of bf16; lane 8 i + r gives the address of row r (16 bytes) of matrix i, and
// r[i] is row l / 4, columns 2 (l % 4) and the next, of matrix i.
__device__ __forceinline__ void load_matrices(unsigned r[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(row)) : "memory");
}

// The same, each matrix transposed.
__device__ __forceinline__ void load_matrices_transposed(unsigned r[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(row)) : "memory");
}

// C += A B
__device__ __forceinline__ void mma_bf16(float c[4], const unsigned a[4], const unsigned b[2]) {
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
               "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
               : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

__device__ __forceinline__ void mma_tf32(float c[4], const unsigned a[4], const unsigned b[2]) {
  asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 "
               "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
               : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

#else // the simulator

#define DYNAMIC_SHARED(name) unsigned char* name = sim::dynamic_shared

inline bf16 to_bf16(float x) {
  unsigned bits = __float_as_uint(x);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return 0x7fff; // NaN, as the GPU writes it
  return (bf16)((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

inline tf32 to_tf32(float x) {
  unsigned bits = __float_as_uint(x);
  if ((bits & 0x7f800000u) == 0x7f800000u) return bits;
  return (bits + 0x1000u) & ~0x1fffu;
}

inline void copy_async_16(void* to, const void* from, int bytes) {
  sim::copy_async(to, from, bytes);
}

inline void copy_async_16_again(void* to, const void* from, int bytes) {
  sim::copy_async(to, from, bytes);
}

inline void copy_commit() { sim::copy_commit(); }

template <int PENDING> inline void copy_wait() { sim::copy_wait(PENDING); }

inline void load_matrices(unsigned r[4], const void* row) {
  sim::Exchange lanes(&row, sizeof row);
  for (int i = 0; i < 4; i++) {
    const unsigned* from = (const unsigned*)lanes.of<const void*>(8 * i + sim::lane() / 4);
    if ((size_t)from % 16) sim::fail("ldmatrix: a row is not aligned to 16 bytes");
    r[i] = from[sim::lane() % 4];
  }
}

inline void load_matrices_transposed(unsigned r[4], const void* row) {
  sim::Exchange lanes(&row, sizeof row);
  int column = sim::lane() / 4, first = 2 * (sim::lane() % 4);
  for (int i = 0; i < 4; i++) {
    const bf16* low = (const bf16*)lanes.of<const void*>(8 * i + first);
    const bf16* high = (const bf16*)lanes.of<const void*>(8 * i + first + 1);
    if ((size_t)low % 16 || (size_t)high % 16)
      sim::fail("ldmatrix: a row is not aligned to 16 bytes");
    r[i] = (unsigned)low[column] | (unsigned)high[column] << 16;
  }
}

struct Fragments { unsigned a[4], b[2]; };

inline void mma_bf16(float c[4], const unsigned a[4], const unsigned b[2]) {
  Fragments mine = {{a[0], a[1], a[2], a[3]}, {b[0], b[1]}};
  sim::Exchange lanes(&mine, sizeof mine);
  for (int i = 0; i < 4; i++) {
    int row = sim::lane() / 4 + 8 * (i / 2), column = 2 * (sim::lane() % 4) + i % 2;
    float sum = 0;
    for (int k = 0; k < 16; k++) {
      unsigned x = lanes.of<Fragments>(row % 8 * 4 + k % 8 / 2).a[row / 8 + 2 * (k / 8)];
      unsigned y = lanes.of<Fragments>(column * 4 + k % 8 / 2).b[k / 8];
      int shift = 16 * (k % 2);
      sum += __uint_as_float((x >> shift) << 16) * __uint_as_float((y >> shift) << 16);
    }
    c[i] += sum;
  }
}

inline void mma_tf32(float c[4], const unsigned a[4], const unsigned b[2]) {
  Fragments mine = {{a[0], a[1], a[2], a[3]}, {b[0], b[1]}};
  sim::Exchange lanes(&mine, sizeof mine);
  for (int i = 0; i < 4; i++) {
    int row = sim::lane() / 4 + 8 * (i / 2), column = 2 * (sim::lane() % 4) + i % 2;
    float sum = 0;
    for (int k = 0; k < 8; k++) {
      unsigned x = lanes.of<Fragments>(row % 8 * 4 + k % 4).a[row / 8 + 2 * (k / 4)];
      unsigned y = lanes.of<Fragments>(column * 4 + k % 4).b[k / 4];
      sum += __uint_as_float(x & ~0x1fffu) * __uint_as_float(y & ~0x1fffu); // truncated, as there
    }
    c[i] += sum;
  }
}

#endif

// x as a value of another type.
template <class T> T rounded(float x);
template <> __device__ __forceinline__ float rounded<float>(float x) { return x; }
template <> __device__ __forceinline__ bf16 rounded<bf16>(float x) { return to_bf16(x); }
template <> __device__ __forceinline__ tf32 rounded<tf32>(float x) { return to_tf32(x); }

// The sum over the 32 lanes, the same in all of them.
__device__ __forceinline__ float warp_sum(float x) {
  for (int distance = 16; distance; distance /= 2) x += __shfl_xor_sync(FULL_WARP, x, distance);
  return x;
}

// The sum over a block of THREADS, the same in all of them, always added in the same order.
// partial: an array of THREADS / 32 in shared memory, not in use by anyone.
template <int THREADS> __device__ __forceinline__ float block_sum(float x, float* partial) {
  x = warp_sum(x);
  if (threadIdx.x % 32 == 0) partial[threadIdx.x / 32] = x;
  __syncthreads();
  x = 0;
  for (int warp = 0; warp < THREADS / 32; warp++) x += partial[warp];
  __syncthreads();
  return x;
}
