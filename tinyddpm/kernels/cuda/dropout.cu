// Inverted dropout with the mask given: twin of ops/dropout.py. VALUE is float, or bf16 or tf32 as
// the norm before it writes them. A thread takes four values.
//
//   y = x keep / (1 - rate)
#include "prims.cuh"

#define THREADS 256

template <class T> struct __align__(4 * sizeof(T)) Four {
  T at[4];
};

__device__ __forceinline__ VALUE scaled(VALUE x, float scale) {
  return rounded<VALUE>(to_float(x) * scale);
}

// scale = 1 / (1 - rate)
extern "C" __global__ void __launch_bounds__(THREADS)
dropout(const VALUE* ALIGNED x, const unsigned char* ALIGNED keep, VALUE* ALIGNED y, float scale,
        long long size) {
  long long first = 4 * ((long long)blockIdx.x * THREADS + threadIdx.x);
  if (first + 4 <= size) {
    Four<VALUE> values = *(const Four<VALUE>*)(x + first);
    Four<unsigned char> kept = *(const Four<unsigned char>*)(keep + first);
    for (int i = 0; i < 4; i++) values.at[i] = kept.at[i] ? scaled(values.at[i], scale) : 0;
    *(Four<VALUE>*)(y + first) = values;
  } else {
    for (long long i = first; i < size; i++) y[i] = keep[i] ? scaled(x[i], scale) : 0;
  }
}
