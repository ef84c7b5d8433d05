// CUDA C on a CPU: one block at a time, one fiber per CUDA thread.
//
// The scheduler is adversarial: it runs one warp, drawn by the seed, as far as it can get before
// any other, lanes in a drawn order, so that a missing barrier shows in the result. Asynchronous
// copies happen at once or as late as the program allows, by choice. Shared memory holds 0xCD before
// every block. A barrier that not all threads reach ends the launch with a message.
#pragma once
#undef _FORTIFY_SOURCE
#include <setjmp.h>
#include <ucontext.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <random>
#include <stdexcept>
#include <string>
#include <tuple>
#include <type_traits>
#include <vector>

#define __global__
#define __device__
#define __forceinline__ inline
#define __restrict__
#define __launch_bounds__(...)
#define __align__(n) __attribute__((aligned(n)))
#define __shared__ static __attribute__((section("sim_shared")))

struct dim3 { unsigned x = 1, y = 1, z = 1; };
struct __align__(8) float2 { float x, y; };
struct __align__(16) float4 { float x, y, z, w; };
struct __align__(16) uint4 { unsigned x, y, z, w; };
inline float2 make_float2(float x, float y) { return {x, y}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }

static dim3 threadIdx, blockIdx, blockDim, gridDim;

extern "C" {
extern char __start_sim_shared[] __attribute__((weak, visibility("hidden")));
extern char __stop_sim_shared[] __attribute__((weak, visibility("hidden")));
}

namespace sim {

enum State { NEW, READY, AT_BLOCK_BARRIER, AT_WARP_BARRIER, DONE };

struct Copy { void* to; const void* from; int bytes; }; // to 16 bytes

struct Fiber {
  ucontext_t context;
  jmp_buf resume;
  State state;
  dim3 index;
  std::vector<std::vector<Copy>> groups; // committed, the oldest first
  std::vector<Copy> open;                // not yet committed
};

static const size_t STACK = 128 * 1024, SLOT = 64;
static std::vector<Fiber> fibers;
static char* stacks; // STACK bytes a thread: the caller's, so that all libraries share them
static std::vector<char> slots; // SLOT bytes a thread, for exchanges within a warp
static ucontext_t scheduler_context;
static jmp_buf scheduler;
static int current;
static std::function<void()> body;
static unsigned char* dynamic_shared;
static size_t shared_bytes_in_use;
static bool eager_copies;
static std::string failure;

inline int lane() { return current % 32; }

// Back to the scheduler, which ends the launch.
[[noreturn]] inline void fail(const char* message) {
  char place[200];
  snprintf(place, sizeof place, "%s (block %u, %u, %u, thread %u, %u, %u)", message, blockIdx.x,
           blockIdx.y, blockIdx.z, threadIdx.x, threadIdx.y, threadIdx.z);
  failure = place;
  _longjmp(scheduler, 1);
}

inline void yield(State state) {
  Fiber& fiber = fibers[current];
  fiber.state = state;
  if (!_setjmp(fiber.resume)) _longjmp(scheduler, 1);
}

static void entry() {
  body();
  fibers[current].state = DONE;
  _longjmp(scheduler, 1);
}

inline void run(int i) {
  Fiber& fiber = fibers[i];
  bool fresh = fiber.state == NEW;
  current = i;
  threadIdx = fiber.index;
  fiber.state = READY;
  if (_setjmp(scheduler)) return;
  if (fresh) swapcontext(&scheduler_context, &fiber.context);
  else _longjmp(fiber.resume, 1);
}

inline void perform(const Copy& copy) {
  memset(copy.to, 0, 16);
  memcpy(copy.to, copy.from, copy.bytes);
}

inline void copy_async(void* to, const void* from, int bytes) {
  if ((uintptr_t)to % 16 || (uintptr_t)from % 16) fail("cp.async: an address is not aligned");
  if (bytes < 0 || bytes > 16) fail("cp.async: copies more than 16 bytes");
  Copy copy = {to, from, bytes};
  if (eager_copies) perform(copy);
  else fibers[current].open.push_back(copy);
}

inline void copy_commit() {
  Fiber& fiber = fibers[current];
  fiber.groups.push_back(fiber.open);
  fiber.open.clear();
}

inline void copy_wait(int pending) {
  auto& groups = fibers[current].groups;
  while ((int)groups.size() > pending) {
    for (const Copy& copy : groups.front()) perform(copy);
    groups.erase(groups.begin());
  }
}

// Every lane shows a value to the 31 others, for as long as this object lives.
struct Exchange {
  Exchange(const void* value, size_t size) {
    memcpy(&slots[current * SLOT], value, size);
    yield(AT_WARP_BARRIER);
  }
  ~Exchange() { yield(AT_WARP_BARRIER); }
  template <class T> T of(int other) const {
    static_assert(sizeof(T) <= SLOT, "an exchange holds 64 bytes");
    T value;
    memcpy(&value, &slots[(current / 32 * 32 + other % 32) * SLOT], sizeof(T));
    return value;
  }
};

inline void prepare_block(int threads, size_t shared_bytes) {
  memset(dynamic_shared, 0xCD, shared_bytes);
  if (__start_sim_shared) memset(__start_sim_shared, 0xCD, __stop_sim_shared - __start_sim_shared);
  for (int i = 0; i < threads; i++) {
    Fiber& fiber = fibers[i];
    unsigned x = blockDim.x, y = blockDim.y;
    fiber.state = NEW;
    fiber.groups.clear();
    fiber.open.clear();
    fiber.index = {i % x, i / x % y, i / (x * y)};
    getcontext(&fiber.context);
    fiber.context.uc_stack.ss_sp = stacks + i * STACK;
    fiber.context.uc_stack.ss_size = STACK;
    fiber.context.uc_link = nullptr;
    makecontext(&fiber.context, entry, 0);
  }
}

// One warp as far as it gets: through its warp barriers, up to a block barrier or its end.
inline bool run_warp(int first, int last, std::mt19937& random) {
  std::vector<int> lanes(last - first);
  for (int i = 0; i < last - first; i++) lanes[i] = first + i;
  std::shuffle(lanes.begin(), lanes.end(), random);
  bool moved = false;
  for (;;) {
    for (int i : lanes)
      if (fibers[i].state == NEW || fibers[i].state == READY) {
        run(i);
        moved = true;
        if (!failure.empty()) return moved;
      }
    int waiting = 0;
    for (int i : lanes) waiting += fibers[i].state == AT_WARP_BARRIER;
    if (!waiting) return moved;
    if (waiting < 32) {
      failure = "a warp collective that not all 32 lanes reach";
      return moved;
    }
    for (int i : lanes) fibers[i].state = READY;
  }
}

inline void run_block(int threads, std::mt19937& random) {
  std::vector<int> warps((threads + 31) / 32);
  for (size_t i = 0; i < warps.size(); i++) warps[i] = i;
  for (;;) {
    std::shuffle(warps.begin(), warps.end(), random);
    bool moved = false;
    for (int warp : warps) {
      moved |= run_warp(32 * warp, std::min(32 * warp + 32, threads), random);
      if (!failure.empty()) return;
    }
    int done = 0, waiting = 0;
    for (int i = 0; i < threads; i++) {
      done += fibers[i].state == DONE;
      waiting += fibers[i].state == AT_BLOCK_BARRIER;
    }
    if (done == threads) return;
    if (waiting < threads) {
      failure = "a __syncthreads that not all threads of the block reach";
      return;
    }
    for (int i = 0; i < threads; i++) fibers[i].state = READY;
  }
}

// 0, or 1 with the reason in `failure`.
inline int launch(const unsigned* grid, const unsigned* block, size_t shared_bytes, unsigned seed,
                  int eager, char* memory_of_stacks, std::function<void()> kernel) {
  gridDim = {grid[0], grid[1], grid[2]};
  blockDim = {block[0], block[1], block[2]};
  int threads = block[0] * block[1] * block[2];
  if ((int)fibers.size() < threads) fibers.resize(threads);
  stacks = memory_of_stacks;
  slots.resize((threads + 31) / 32 * 32 * SLOT);
  std::vector<unsigned char> memory(shared_bytes + 1024);
  dynamic_shared = (unsigned char*)(((uintptr_t)memory.data() + 1023) & ~(uintptr_t)1023);
  shared_bytes_in_use = shared_bytes;
  body = kernel;
  eager_copies = eager;
  failure.clear();
  std::mt19937 random(seed);
  for (blockIdx.z = 0; blockIdx.z < gridDim.z; blockIdx.z++)
    for (blockIdx.y = 0; blockIdx.y < gridDim.y; blockIdx.y++)
      for (blockIdx.x = 0; blockIdx.x < gridDim.x; blockIdx.x++) {
        prepare_block(threads, shared_bytes);
        run_block(threads, random);
        if (!failure.empty()) return 1;
      }
  return 0;
}

} // namespace sim

// Parameter I of a kernel: an array's address as it is, a number from where it lies.
template <int I, class... P> auto sim_cast(void (*)(P...), void* value) {
  using Type = std::tuple_element_t<I, std::tuple<P...>>;
  if constexpr (std::is_pointer_v<Type>) return (Type)value;
  else return *(Type*)value;
}

extern "C" const char* sim_failure() { return sim::failure.c_str(); }

inline void __syncthreads() { sim::yield(sim::AT_BLOCK_BARRIER); }
template <class T> T __shfl_xor_sync(unsigned mask, T x, int with) {
  if (mask != 0xffffffffu) sim::fail("a shuffle of less than a whole warp");
  sim::Exchange lanes(&x, sizeof x);
  return lanes.of<T>(sim::lane() ^ with);
}

inline unsigned __float_as_uint(float x) { unsigned y; memcpy(&y, &x, 4); return y; }
inline float __uint_as_float(unsigned x) { float y; memcpy(&y, &x, 4); return y; }
inline unsigned __umulhi(unsigned x, unsigned y) { return (uint64_t)x * y >> 32; }
inline float rsqrtf(float x) { return 1.0f / std::sqrt(x); }
inline float __expf(float x) { return std::exp(x); }
// exp(x²) erfc(x) for x ≥ 0; beyond 60 by its first terms.
inline double erfcx(double x) {
  if (x < 60) return expl((long double)x * x) * erfcl(x);
  return (1 - 1 / (2 * x * x)) / (x * sqrt(M_PI));
}
inline void sincospi(double x, double* s, double* c) {
  *s = std::sin(M_PI * x);
  *c = std::cos(M_PI * x);
}
using std::isfinite;
using std::max;
using std::min;
