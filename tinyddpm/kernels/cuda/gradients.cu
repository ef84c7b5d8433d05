// Many gradients into one: grad[start + i] = Σ_p parts[p distance + i] for each of them. And the
// squares, added up block by block. All sums have an order that depends on the number of parts and
// of blocks alone.
//
// An item is LONG values of a gradient that is in FEW parts, or SHORT of one in many.
#include "items.cuh"
#include "prims.cuh"

static_assert(SHORT == 32, "a lane for each value");

struct Found {
  const float* parts;
  long long number, distance, start, count, first_item;
};

extern "C" __global__ void __launch_bounds__(256)
gather(const unsigned long long* table, float* grad, float* partial_squares, int gradients) {
  __shared__ float found[8][SHORT];
  const Found* all = (const Found*)table;
  int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  float squares = 0;
  for (long long item = blockIdx.x; item < all_items(all, gradients); item += gridDim.x) {
    Found one = row_of(all, gradients, item);
    if (one.number <= FEW) {
      long long first = (item - one.first_item) * LONG, last = min(first + LONG, one.count);
      for (long long i = first + threadIdx.x; i < last; i += 256) {
        float sum = one.parts[i];
        for (int p = 1; p < one.number; p++) sum += one.parts[p * one.distance + i];
        grad[one.start + i] = sum;
        squares += sum * sum;
      }
      continue;
    }
    // Each warp adds up every eighth part, the first one what the eight have found.
    long long i = (item - one.first_item) * SHORT + lane;
    float sum = 0;
    if (i < one.count) {
#pragma unroll 8
      for (long long p = warp; p < one.number; p += 8) sum += one.parts[p * one.distance + i];
    }
    found[warp][lane] = sum;
    __syncthreads();
    if (warp == 0 && i < one.count) {
      for (int other = 1; other < 8; other++) sum += found[other][lane];
      grad[one.start + i] = sum;
      squares += sum * sum;
    }
    __syncthreads(); // what was found is read
  }
  squares = block_sum<256>(squares, found[0]);
  if (threadIdx.x == 0) partial_squares[blockIdx.x] = squares;
}
