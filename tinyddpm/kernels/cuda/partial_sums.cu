// sum[i] = partial[0][i] + … + partial[parts - 1][i]. The rows of a block (32, blockDim.y) add up
// every blockDim.y-th part, and the first row their sums: the order depends on blockDim.y alone.
extern "C" __global__ void __launch_bounds__(1024)
add_partials(const float* partial, float* sum, int parts, int count) {
  __shared__ float rows[32][32];
  int i = blockIdx.x * 32 + threadIdx.x;
  float total = 0.0f;
  if (i < count)
    for (int p = threadIdx.y; p < parts; p += blockDim.y) total += partial[(size_t)p * count + i];
  rows[threadIdx.y][threadIdx.x] = total;
  __syncthreads();
  if (threadIdx.y || i >= count) return;
  for (int row = 1; row < blockDim.y; row++) total += rows[row][threadIdx.x];
  sum[i] = total;
}
