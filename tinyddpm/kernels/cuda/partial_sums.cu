// sum[i] = partial[0][i] + … + partial[parts - 1][i], in an order that depends on `parts` alone.
extern "C" __global__ void __launch_bounds__(256)
add_partials(const float* partial, float* sum, int parts, int count) {
  __shared__ float rows[8][32];
  int i = blockIdx.x * 32 + threadIdx.x;
  float total = 0.0f;
  if (i < count)
    for (int p = threadIdx.y; p < parts; p += 8) total += partial[(size_t)p * count + i];
  rows[threadIdx.y][threadIdx.x] = total;
  __syncthreads();
  if (threadIdx.y || i >= count) return;
  for (int row = 1; row < 8; row++) total += rows[row][threadIdx.x];
  sum[i] = total;
}
