// SiLU: twin of ops/silu.py. A thread takes one value. RESULT, the type of y, is float, or bf16 or
// tf32 for a product that takes y as it is.
//
//   s = sigmoid(x),  y = x s,  dx = dy s (1 + x (1 - s))
#include "prims.cuh"
#include "sigmoid.cuh"

#define THREADS 256

extern "C" __global__ void __launch_bounds__(THREADS)
silu(const float* x, RESULT* y, int size) {
  int i = blockIdx.x * THREADS + threadIdx.x;
  if (i < size) y[i] = rounded<RESULT>(x[i] * sigmoid(x[i]));
}

extern "C" __global__ void __launch_bounds__(THREADS)
silu_backward(const float* dy, const float* x, float* dx, int size) {
  int i = blockIdx.x * THREADS + threadIdx.x;
  if (i >= size) return;
  float s = sigmoid(x[i]);
  dx[i] = dy[i] * s * (1.0f + x[i] * (1.0f - s));
}
