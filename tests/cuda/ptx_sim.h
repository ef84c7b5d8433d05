// The instructions of PTX on a CPU, each a function of the name ptx_ + its own with _ for every dot:
// `add.ftz.f32 %f3, %f1, %f2;` is ptx_add_ftz_f32(f3, f1, f2). Whoever includes this has included
// cuda_sim.h and prims.cuh, whose twins compute what a warp does together.
//
// Addresses: of global memory, the host's own; of shared memory, offsets into a window that begins
// at WINDOW; a generic address of shared memory lies in the host's copy of that window. Every access
// must be aligned to its size, and one of shared memory lie within the window.
#pragma once
#include <cfenv>
#include <cfloat>

static const uint64_t WINDOW = 1024; // what lies before is reserved, as on a card

// The type of a parameter from which T is not deduced.
template <class T> struct Exactly { using type = T; };
template <class T> using exactly = typename Exactly<T>::type;

template <class To, class From> To ptx_bits(From from) {
  static_assert(sizeof(To) == sizeof(From), "a move between registers of different sizes");
  To to;
  memcpy(&to, &from, sizeof to);
  return to;
}
inline float ptx_float(uint32_t bits) { return ptx_bits<float>(bits); }
inline double ptx_double(uint64_t bits) { return ptx_bits<double>(bits); }

// Numbers below the smallest normal one are zero, of their sign.
inline float ftz(float x) { return std::fabs(x) < FLT_MIN ? std::copysign(0.0f, x) : x; }

// ---- memory ------------------------------------------------------------------------------------

inline char* ptx_global(uint64_t address, size_t bytes) {
  if (address % bytes) sim::fail("an address of global memory is not aligned");
  return (char*)address;
}

inline char* ptx_shared(uint64_t address, size_t bytes) {
  if (address % bytes) sim::fail("an address of shared memory is not aligned");
  if (address < WINDOW || address + bytes > WINDOW + sim::shared_bytes_in_use)
    sim::fail("an address outside of the block's shared memory");
  return (char*)sim::dynamic_shared + (address - WINDOW);
}

template <class T, class D> void ptx_load(D& to, const char* from) {
  static_assert(std::is_floating_point_v<T> == std::is_floating_point_v<D>);
  T value;
  memcpy(&value, from, sizeof value);
  to = value;
}
template <class T, class D> void ptx_store(char* to, D from) {
  static_assert(std::is_floating_point_v<T> == std::is_floating_point_v<D>);
  T value = (T)from;
  memcpy(to, &value, sizeof value);
}

#define LOADS(name, type, T, place)                                                              \
  template <class D> void ptx_ld##name##type(D& a, uint64_t at) {                                \
    ptx_load<T>(a, place(at, sizeof(T)));                                                        \
  }                                                                                              \
  template <class D> void ptx_ld##name##v2_##type(D& a, D& b, uint64_t at) {                     \
    const char* from = place(at, 2 * sizeof(T));                                                 \
    ptx_load<T>(a, from), ptx_load<T>(b, from + sizeof(T));                                      \
  }                                                                                              \
  template <class D> void ptx_ld##name##v4_##type(D& a, D& b, D& c, D& d, uint64_t at) {         \
    const char* from = place(at, 4 * sizeof(T));                                                 \
    ptx_load<T>(a, from), ptx_load<T>(b, from + sizeof(T));                                      \
    ptx_load<T>(c, from + 2 * sizeof(T)), ptx_load<T>(d, from + 3 * sizeof(T));                  \
  }
#define STORES(name, type, T, place)                                                             \
  template <class D> void ptx_st##name##type(uint64_t at, D a) {                                 \
    ptx_store<T>(place(at, sizeof(T)), a);                                                       \
  }                                                                                              \
  template <class D> void ptx_st##name##v2_##type(uint64_t at, D a, D b) {                       \
    char* to = place(at, 2 * sizeof(T));                                                         \
    ptx_store<T>(to, a), ptx_store<T>(to + sizeof(T), b);                                        \
  }                                                                                              \
  template <class D> void ptx_st##name##v4_##type(uint64_t at, D a, D b, D c, D d) {             \
    char* to = place(at, 4 * sizeof(T));                                                         \
    ptx_store<T>(to, a), ptx_store<T>(to + sizeof(T), b);                                        \
    ptx_store<T>(to + 2 * sizeof(T), c), ptx_store<T>(to + 3 * sizeof(T), d);                    \
  }
#define MEMORY(type, T)                                                                          \
  LOADS(_, type, T, ptx_global)                                                                  \
  LOADS(_global_, type, T, ptx_global)                                                           \
  LOADS(_global_nc_, type, T, ptx_global)                                                        \
  LOADS(_shared_, type, T, ptx_shared)                                                           \
  STORES(_, type, T, ptx_global)                                                                 \
  STORES(_global_, type, T, ptx_global)                                                          \
  STORES(_shared_, type, T, ptx_shared)
MEMORY(u8, uint8_t)
MEMORY(u16, uint16_t)
MEMORY(u32, uint32_t)
MEMORY(s32, int32_t)
MEMORY(u64, uint64_t)
MEMORY(f32, float)
MEMORY(f64, double)

inline void ptx_cvta_to_global_u64(uint64_t& d, uint64_t a) { d = a; }
inline void ptx_cvta_shared_u64(uint64_t& d, uint64_t a) {
  d = (uint64_t)sim::dynamic_shared + a - WINDOW;
}
inline void ptx_cvta_to_shared_u64(uint64_t& d, uint64_t a) {
  d = a - (uint64_t)sim::dynamic_shared + WINDOW;
}

// ---- moves -------------------------------------------------------------------------------------

inline void ptx_mov_pred(bool& d, int a) { d = a; }
#define MOVES(type, T)                                                                           \
  inline void ptx_mov_##type(T& d, T a) { d = a; }                                               \
  inline void ptx_selp_##type(T& d, T a, T b, bool first) { d = first ? a : b; }
MOVES(u16, uint16_t)
MOVES(u32, uint32_t)
MOVES(u64, uint64_t)
MOVES(f32, float)
MOVES(f64, double)
template <class D> void ptx_selp_b32(D& d, exactly<D> a, exactly<D> b, bool first) {
  d = first ? a : b;
}
template <class D> void ptx_selp_b64(D& d, exactly<D> a, exactly<D> b, bool first) {
  d = first ? a : b;
}
template <class D, class A> void ptx_mov_b32(D& d, A a) { d = ptx_bits<D>(a); }
template <class D, class A> void ptx_mov_b64(D& d, A a) { d = ptx_bits<D>(a); }
inline void ptx_mov_b32(uint32_t& d, uint16_t low, uint16_t high) {
  d = low | (uint32_t)high << 16;
}
inline void ptx_mov_b64(double& d, uint32_t low, uint32_t high) {
  d = ptx_double(low | (uint64_t)high << 32);
}
inline void ptx_mov_b64(uint32_t& low, uint32_t& high, double a) {
  uint64_t bits = ptx_bits<uint64_t>(a);
  low = (uint32_t)bits, high = (uint32_t)(bits >> 32);
}

// ---- integers and predicates -------------------------------------------------------------------

#define ONE(name, D, T, value) inline void ptx_##name(D& d, T a) { d = (value); }
#define TWO(name, D, T, value) inline void ptx_##name(D& d, T a, T b) { d = (value); }
#define THREE(name, D, T, value) inline void ptx_##name(D& d, T a, T b, T c) { d = (value); }

#define EQUAL(type, T)                                                                           \
  TWO(setp_eq_##type, bool, T, a == b)                                                           \
  TWO(setp_ne_##type, bool, T, a != b)
#define COMPARE(type, T)                                                                         \
  EQUAL(type, T)                                                                                 \
  TWO(setp_lt_##type, bool, T, a < b)                                                            \
  TWO(setp_le_##type, bool, T, a <= b)                                                           \
  TWO(setp_gt_##type, bool, T, a > b)                                                            \
  TWO(setp_ge_##type, bool, T, a >= b)
EQUAL(b32, uint32_t)
EQUAL(b64, uint64_t)
COMPARE(s16, int16_t)
COMPARE(u16, uint16_t)
COMPARE(s32, int32_t)
COMPARE(u32, uint32_t)
COMPARE(s64, int64_t)
COMPARE(u64, uint64_t)

// D: the register; T: what the instruction takes it for; U: the same without a sign.
#define INTEGERS(type, D, T, U)                                                                  \
  TWO(add_##type, D, T, (U)a + (U)b)                                                             \
  TWO(sub_##type, D, T, (U)a - (U)b)                                                             \
  TWO(mul_lo_##type, D, T, (U)a * (U)b)                                                          \
  THREE(mad_lo_##type, D, T, (U)a * (U)b + (U)c)                                                 \
  TWO(div_##type, D, T, a / b)                                                                   \
  TWO(rem_##type, D, T, a % b)                                                                   \
  TWO(min_##type, D, T, a < b ? a : b)                                                           \
  TWO(max_##type, D, T, a > b ? a : b)                                                           \
  inline void ptx_shr_##type(D& d, T a, uint32_t by) {                                           \
    d = by < 8 * sizeof(T) ? a >> by : a < 0 ? (T)-1 : 0;                                        \
  }
INTEGERS(s32, uint32_t, int32_t, uint32_t)
INTEGERS(u32, uint32_t, uint32_t, uint32_t)
INTEGERS(s64, uint64_t, int64_t, uint64_t)
INTEGERS(u64, uint64_t, uint64_t, uint64_t)
ONE(neg_s32, uint32_t, uint32_t, -a)
ONE(neg_s64, uint64_t, uint64_t, -a)
TWO(mul_wide_s32, uint64_t, int32_t, (int64_t)a * b)
TWO(mul_wide_u32, uint64_t, uint32_t, (uint64_t)a * b)
TWO(mul_hi_s32, uint32_t, int32_t, (int64_t)a * b >> 32)
TWO(mul_hi_u32, uint32_t, uint32_t, (uint64_t)a * b >> 32)

#define BITS(type, T)                                                                            \
  TWO(and_##type, T, T, a & b)                                                                   \
  TWO(or_##type, T, T, a | b)                                                                    \
  TWO(xor_##type, T, T, a ^ b)                                                                   \
  ONE(not_##type, T, T, ~a)                                                                      \
  inline void ptx_shl_##type(T& d, T a, uint32_t by) { d = by < 8 * sizeof(T) ? a << by : 0; }
BITS(b16, uint16_t)
BITS(b32, uint32_t)
BITS(b64, uint64_t)
TWO(and_pred, bool, bool, a && b)
TWO(or_pred, bool, bool, a || b)
TWO(xor_pred, bool, bool, a != b)
ONE(not_pred, bool, bool, !a)

// b with the `length` lowest bits of a at `first`.
inline void ptx_bfi_b32(uint32_t& d, uint32_t a, uint32_t b, uint32_t first, uint32_t length) {
  uint32_t mask = (uint32_t)(((1ull << length) - 1) << first);
  d = (b & ~mask) | (a << first & mask);
}

// ---- numbers -----------------------------------------------------------------------------------

#define COMPARE_NUMBERS(type, T, in)                                                             \
  TWO(setp_eq_##type, bool, T, in(a) == in(b))                                                   \
  TWO(setp_ne_##type, bool, T, in(a) < in(b) || in(a) > in(b))                                   \
  TWO(setp_lt_##type, bool, T, in(a) < in(b))                                                    \
  TWO(setp_le_##type, bool, T, in(a) <= in(b))                                                   \
  TWO(setp_gt_##type, bool, T, in(a) > in(b))                                                    \
  TWO(setp_ge_##type, bool, T, in(a) >= in(b))                                                   \
  TWO(setp_equ_##type, bool, T, !(in(a) < in(b) || in(a) > in(b)))                               \
  TWO(setp_neu_##type, bool, T, in(a) != in(b))                                                  \
  TWO(setp_ltu_##type, bool, T, !(in(a) >= in(b)))                                               \
  TWO(setp_leu_##type, bool, T, !(in(a) > in(b)))                                                \
  TWO(setp_gtu_##type, bool, T, !(in(a) <= in(b)))                                               \
  TWO(setp_geu_##type, bool, T, !(in(a) < in(b)))
COMPARE_NUMBERS(ftz_f32, float, ftz)
COMPARE_NUMBERS(f64, double, )

ONE(abs_ftz_f32, float, float, std::fabs(ftz(a)))
ONE(neg_ftz_f32, float, float, -ftz(a))
TWO(add_ftz_f32, float, float, ftz(ftz(a) + ftz(b)))
TWO(sub_ftz_f32, float, float, ftz(ftz(a) - ftz(b)))
TWO(mul_ftz_f32, float, float, ftz(ftz(a) * ftz(b)))
TWO(div_rn_ftz_f32, float, float, ftz(ftz(a) / ftz(b)))
TWO(max_ftz_f32, float, float, std::fmax(ftz(a), ftz(b)))
THREE(fma_rn_ftz_f32, float, float, ftz(std::fma(ftz(a), ftz(b), ftz(c))))
ONE(rcp_rn_ftz_f32, float, float, ftz(1 / ftz(a)))
ONE(sqrt_rn_ftz_f32, float, float, std::sqrt(ftz(a)))
ONE(rsqrt_approx_ftz_f32, float, float, 1 / std::sqrt(ftz(a)))
ONE(ex2_approx_ftz_f32, float, float, ftz(std::exp2(ftz(a))))
inline void ptx_fma_rm_ftz_f32(float& d, volatile float a, float b, float c) {
  std::fesetround(FE_DOWNWARD);
  volatile float sum = std::fma(ftz(a), ftz(b), ftz(c));
  std::fesetround(FE_TONEAREST);
  d = ftz(sum);
}

ONE(abs_f64, double, double, std::fabs(a))
ONE(neg_f64, double, double, -a)
TWO(add_f64, double, double, a + b)
TWO(add_rn_f64, double, double, a + b)
TWO(sub_f64, double, double, a - b)
TWO(mul_f64, double, double, a * b)
TWO(mul_rn_f64, double, double, a * b)
TWO(div_rn_f64, double, double, a / b)
TWO(min_f64, double, double, std::fmin(a, b))
TWO(max_f64, double, double, std::fmax(a, b))
THREE(fma_rn_f64, double, double, std::fma(a, b, c))
ONE(rcp_rn_f64, double, double, 1 / a)
ONE(sqrt_rn_f64, double, double, std::sqrt(a))
// Of the argument and of the result only the upper half counts.
inline void ptx_rcp_approx_ftz_f64(double& d, double a) {
  const uint64_t upper = 0xffffffff00000000;
  double rough = 1 / ptx_double(ptx_bits<uint64_t>(a) & upper);
  d = ptx_double(ptx_bits<uint64_t>(rough) & upper);
}

// ---- conversions -------------------------------------------------------------------------------

ONE(cvt_u16_u32, uint16_t, uint32_t, (uint16_t)a)
ONE(cvt_u32_u16, uint32_t, uint16_t, a)
ONE(cvt_u32_u64, uint32_t, uint64_t, (uint32_t)a)
ONE(cvt_u64_u32, uint64_t, uint32_t, a)
ONE(cvt_s64_s32, uint64_t, int32_t, (int64_t)a)
ONE(cvt_rn_f32_s32, float, int32_t, (float)a)
ONE(cvt_rn_f32_u16, float, uint16_t, a)
ONE(cvt_rn_f64_s32, double, int32_t, a)
ONE(cvt_rn_f64_u32, double, uint32_t, a)
ONE(cvt_ftz_f64_f32, double, float, ftz(a))
ONE(cvt_rn_ftz_f32_f64, float, double, ftz((float)a))
ONE(cvt_rni_f32_f32, float, float, std::nearbyint(a))
ONE(cvt_rni_f64_f64, double, double, std::nearbyint(a))
ONE(cvt_rzi_f64_f64, double, double, std::trunc(a))
ONE(cvt_rzi_s64_f64, uint64_t, double, (uint64_t)(int64_t)a)
ONE(cvt_ftz_sat_f32_f32, float, float, ftz(std::fmin(std::fmax(a, 0.0f), 1.0f))) // NaN: 0
ONE(cvt_rn_bf16_f32, uint16_t, float, to_bf16(a))
ONE(cvt_rna_tf32_f32, uint32_t, float, to_tf32(a))

// ---- what threads do together ------------------------------------------------------------------

inline void ptx_bar_sync(int barrier) {
  if (barrier) sim::fail("a barrier other than 0");
  __syncthreads();
}

// All lanes must be at the same instruction, as .aligned demands.
inline void ptx_aligned(int line) {
  sim::Exchange lanes(&line, sizeof line);
  for (int lane = 0; lane < 32; lane++)
    if (lanes.of<int>(lane) != line) sim::fail("lanes of a warp are at different instructions");
}

inline void ptx_shfl_sync_bfly_b32(uint32_t& d, bool& valid, uint32_t a, uint32_t with, int clamp,
                                   uint32_t mask) {
  if (clamp != 31) sim::fail("a shuffle within a part of a warp");
  d = __shfl_xor_sync(mask, a, with);
  valid = true;
}

inline void ptx_cp_async_cg_shared_global(uint64_t to, uint64_t from, int size, int bytes = 16) {
  if (size != 16) sim::fail("a copy of less than 16 bytes");
  copy_async_16(ptx_shared(to, 16), ptx_global(from, 16), bytes);
}
inline void ptx_cp_async_ca_shared_global(uint64_t to, uint64_t from, int size, int bytes = 16) {
  ptx_cp_async_cg_shared_global(to, from, size, bytes);
}
inline void ptx_cp_async_commit_group() { copy_commit(); }
inline void ptx_cp_async_wait_group(int pending) { sim::copy_wait(pending); }

#define LOAD_MATRICES(name, twin)                                                                \
  inline void ptx_ldmatrix_sync_aligned_##name(uint32_t& d0, uint32_t& d1, uint32_t& d2,         \
                                               uint32_t& d3, uint64_t row,                       \
                                               int line = __builtin_LINE()) {                    \
    ptx_aligned(line);                                                                           \
    unsigned r[4];                                                                               \
    twin(r, ptx_shared(row, 16));                                                                \
    d0 = r[0], d1 = r[1], d2 = r[2], d3 = r[3];                                                  \
  }
LOAD_MATRICES(m8n8_x4_shared_b16, load_matrices)
LOAD_MATRICES(m8n8_x4_trans_shared_b16, load_matrices_transposed)

#define MMA(name, twin)                                                                          \
  inline void ptx_mma_sync_aligned_##name(                                                       \
      float& d0, float& d1, float& d2, float& d3, uint32_t a0, uint32_t a1, uint32_t a2,         \
      uint32_t a3, uint32_t b0, uint32_t b1, float c0, float c1, float c2, float c3,             \
      int line = __builtin_LINE()) {                                                             \
    ptx_aligned(line);                                                                           \
    unsigned a[4] = {a0, a1, a2, a3}, b[2] = {b0, b1};                                           \
    float c[4] = {c0, c1, c2, c3};                                                               \
    twin(c, a, b);                                                                               \
    d0 = c[0], d1 = c[1], d2 = c[2], d3 = c[3];                                                  \
  }
MMA(m16n8k16_row_col_f32_bf16_bf16_f32, mma_bf16)
MMA(m16n8k8_row_col_f32_tf32_tf32_f32, mma_tf32)

// A float that is passed where an instruction takes bits would be converted: that is an error.
#pragma GCC diagnostic error "-Wfloat-conversion"
