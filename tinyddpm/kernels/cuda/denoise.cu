// One step of a reverse chain, ancestral or DDIM, for the whole batch.
//
//   x0_hat = clip(c[0] x_t + c[1] prediction)
//   x_{t−1} = c[2] x0_hat + c[3] x_t + σ z        z = 0 at t = 1
//   σ       = c[4], or exp(½ (f c[6] + (1 − f) c[5])) if LEARNED, f = (v + 1)/2
//
// with a row c of `table` (T + 1, 7) for each t. The network's output has OUTPUTS channels for each
// of the image's: the prediction, then v. What one captured graph does for every step of every walk
// is told by the device:
//
//   state[0]  t
//   state[1]  the number of the first image, for its noise
#include "philox.cuh"

// Into [-1, 1]; what is not a number stays none.
__device__ __forceinline__ float clipped(float x) {
  return x < -1.0f ? -1.0f : x > 1.0f ? 1.0f : x;
}

// t ← t − 1, and the times that the network is given. One block.
extern "C" __global__ void __launch_bounds__(256)
next_time(int* state, const float* timesteps, float* times, int n) {
  int now = state[0] - 1;
  __syncthreads();
  if (threadIdx.x == 0) state[0] = now;
  for (int i = threadIdx.x; i < n; i += 256) times[i] = timesteps[now];
}

// x_T: step 0 of the stream.
extern "C" __global__ void __launch_bounds__(256)
first_noise(float* x, const int* state, int size, unsigned seed, unsigned stream) {
  int block = blockIdx.y * 256 + threadIdx.x, image = blockIdx.x;
  if (4 * block >= size) return;
  float4 four = normals(philox(block, state[1] + image, 0, 0, seed, stream));
  float z[4] = {four.x, four.y, four.z, four.w};
  for (int k = 0; k < 4; k++)
    if (4 * block + k < size) x[(long long)image * size + 4 * block + k] = z[k];
}

// x, x0_hat and output are those of the batch's images from `first` on.
extern "C" __global__ void __launch_bounds__(256)
denoise(float* x, float* x0_hat, const float* output, const float* table, const int* state,
        int pixels, int channels, int first, unsigned seed, unsigned stream) {
  int block = blockIdx.y * 256 + threadIdx.x, image = blockIdx.x, size = pixels * channels;
  if (4 * block >= size) return;
  int t = state[0];
  const float* c = table + t * 7;
  float4 four = make_float4(0, 0, 0, 0);
  if (t > 1 && (LEARNED || c[4] != 0))
    four = normals(philox(block, state[1] + first + image, t, 0, seed, stream));
  float z[4] = {four.x, four.y, four.z, four.w};
  for (int k = 0; k < 4; k++) {
    int i = 4 * block + k;
    if (i >= size) return;
    long long at = (long long)image * size + i;
    long long from = ((long long)image * pixels + i / channels) * OUTPUTS * channels + i % channels;
    float sigma = c[4];
    if (LEARNED) {
      float f = 0.5f * (output[from + channels] + 1.0f);
      sigma = expf(0.5f * (f * c[6] + (1.0f - f) * c[5]));
    }
    float foreseen = clipped(c[0] * x[at] + c[1] * output[from]);
    x0_hat[at] = foreseen;
    x[at] = c[2] * foreseen + c[3] * x[at] + sigma * z[k];
  }
}
