// Many arrays into one: grad[starts[j] + i] = sources[j][i]. And the squares, added up block by
// block, always in the same order.
#include "prims.cuh"

#define CHUNK 4096

// The array that element i belongs to: starts[j] <= i < starts[j + 1].
__device__ __forceinline__ int owner(const long long* starts, int arrays, long long i) {
  int low = 0, high = arrays;
  while (high - low > 1) {
    int middle = (low + high) / 2;
    if (starts[middle] <= i) low = middle;
    else high = middle;
  }
  return low;
}

extern "C" __global__ void __launch_bounds__(256)
gather(const unsigned long long* sources, const long long* starts, float* grad,
       float* partial_squares, int arrays, long long count) {
  __shared__ float partial[8];
  float sum = 0;
  for (long long chunk = (long long)blockIdx.x * CHUNK; chunk < count;
       chunk += (long long)gridDim.x * CHUNK) {
    int j = owner(starts, arrays, chunk);
    for (long long i = chunk + threadIdx.x; i < min(chunk + CHUNK, count); i += 256) {
      while (i >= starts[j + 1]) j++;
      float g = ((const float*)sources[j])[i - starts[j]];
      grad[i] = g;
      sum += g * g;
    }
  }
  sum = block_sum<256>(sum, partial);
  if (threadIdx.x == 0) partial_squares[blockIdx.x] = sum;
}
