// Many gradients into one: grad[starts[j] + i] = Σ_p sources[j][p distances[j] + i], p < parts[j].
// And the squares, added up block by block. All sums have an order that depends on the number of
// parts and of blocks alone.
//
// The work is cut into items, those of gradient j from items[j] on: LONG values of one that is in
// FEW parts, and SHORT of one in many.
#include "prims.cuh"

// The gradient that an item belongs to: items[j] <= item < items[j + 1].
__device__ __forceinline__ int owner(const long long* items, int gradients, long long item) {
  int low = 0, high = gradients;
  while (high - low > 1) {
    int middle = (low + high) / 2;
    if (items[middle] <= item) low = middle;
    else high = middle;
  }
  return low;
}

extern "C" __global__ void __launch_bounds__(256)
gather(const unsigned long long* sources, const long long* parts, const long long* distances,
       const long long* items, const long long* starts, float* grad, float* partial_squares,
       int gradients) {
  __shared__ float found[8][SHORT];
  int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  float squares = 0;
  for (long long item = blockIdx.x; item < items[gradients]; item += gridDim.x) {
    int j = owner(items, gradients, item);
    const float* source = (const float*)sources[j];
    long long distance = distances[j], number = parts[j], count = starts[j + 1] - starts[j];
    if (number <= FEW) {
      long long first = (item - items[j]) * LONG, last = min(first + LONG, count);
      for (long long i = first + threadIdx.x; i < last; i += 256) {
        float sum = source[i];
        for (int p = 1; p < number; p++) sum += source[p * distance + i];
        grad[starts[j] + i] = sum;
        squares += sum * sum;
      }
      continue;
    }
    // Each warp adds up every eighth part, the first one what the eight have found.
    long long i = (item - items[j]) * SHORT + lane;
    float sum = 0;
    if (i < count) {
#pragma unroll 8
      for (long long p = warp; p < number; p += 8) sum += source[p * distance + i];
    }
    found[warp][lane] = sum;
    __syncthreads();
    if (warp == 0 && i < count) {
      for (int other = 1; other < 8; other++) sum += found[other][lane];
      grad[starts[j] + i] = sum;
      squares += sum * sum;
    }
    __syncthreads(); // what was found is read
  }
  squares = block_sum<256>(squares, found[0]);
  if (threadIdx.x == 0) partial_squares[blockIdx.x] = squares;
}
