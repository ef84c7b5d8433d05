// The loss of each image and its gradient: diffusion.losses, in one pass.
//
//   OBJECTIVE 0 simple   mean (scale prediction − target)²        scale = c[6] if SCORE, else 1
//             1 hybrid   simple + per_nat Σ nats, whose gradient stops at the prediction
//             2 vlb      per_nat Σ nats
//   OUTPUTS   channels of the output for each of the image's: 2 where a learned variance has its v
//
// nats is a pixel's part of L_{t−1}: for t > 1 the KL divergence, at t = 1 the discrete decoder,
// with (diffusion.bound, diffusion.decoder)
//
//   x0_hat = c[0] xt + c[1] prediction        means c[2] x0 and c[2] x0_hat
//   log σ² = c[3], or f c[5] + (1 − f) c[4] for a v, f = (v + 1)/2        log β̃_t = c[4]
//
// and a row c of `table` (T + 1, 7) for each t. The decoder is float64 inside, as on the host.
#include "prims.cuh"

struct Term { float nats, dx0_hat, dlog_variance; };

__device__ __forceinline__ Term kl(float x0, float x0_hat, float log_variance, const float* c) {
  float difference = c[2] * x0_hat - c[2] * x0, precision = expf(-log_variance);
  float ratio = c[4] - log_variance, square = difference * difference * precision;
  return {0.5f * (expm1f(ratio) - ratio + square), c[2] * difference * precision,
          -0.5f * (expm1f(ratio) + square)};
}

// log Φ(z), and φ(z)/Φ(z) through `slope`: R = exp(½ z²) Φ(−|z|) is finite where Φ has underflowed.
__device__ __forceinline__ double log_cdf(double z, double* slope) {
  double scaled = 0.5 * erfcx(fabs(z) * 0.70710678118654752), bell = exp(-0.5 * z * z);
  double density = 0.39894228040143268;
  if (z < 0) {
    *slope = density / scaled;
    return -0.5 * z * z + log(scaled);
  }
  *slope = density * bell / (1.0 - bell * scaled);
  return log1p(-bell * scaled);
}

__device__ __forceinline__ Term decoder(float x0, float mean, float log_variance) {
  double inv_std = exp(-0.5 * (double)log_variance), half_bin = 1.0 / 255.0, slope, unused;
  double centred = (double)x0 - (double)mean;
  double lower = (centred - half_bin) * inv_std, upper = (centred + half_bin) * inv_std;
  bool first = x0 < half_bin - 1.0, last = x0 > 1.0 - half_bin; // their bins are open
  bool reflected = last || (!first && lower + upper > 0);
  double side = reflected ? -1.0 : 1.0;
  double near = reflected ? -lower : upper, far = reflected ? -upper : lower;
  double log_near = log_cdf(near, &slope);
  if (first || last) // the far end does not move
    return {(float)-log_near, (float)(side * inv_std * slope), (float)(0.5 * slope * near)};
  double gap = log_near - log_cdf(far, &unused), p = -expm1(-gap);
  double log_p = log_near + (gap < 0.69314718055994531 ? log(p) : log1p(-exp(-gap)));
  double density = slope / p, log_decay = -0.5 * (far - near) * (far + near);
  return {(float)-log_p, (float)(-side * inv_std * density * expm1(log_decay)),
          (float)(0.5 * density * (near - far * exp(log_decay)))};
}

// losses: of the images of step state[0], in row state[0] mod ROWS; doutput: of their mean, each
// times its weight where there are weights.
extern "C" __global__ void __launch_bounds__(256)
image_losses(const float* output, const float* target, const float* x0, const float* xt,
             const int* times, const float* weights, const float* table, const unsigned* state,
             float* losses, float* doutput, int pixels, int channels, float per_nat) {
  __shared__ float partial[8];
  int image = blockIdx.x, batch = gridDim.x, size = pixels * channels, t = times[image];
  const float* c = table + 7 * t;
  float scale = SCORE ? c[6] : 1.0f, squares = 0, nats = 0;
  float share = (weights ? weights[image] : 1.0f) / batch;
  for (int i = threadIdx.x; i < size; i += 256) {
    long long at = (long long)image * size + i;
    long long from = ((long long)image * pixels + i / channels) * OUTPUTS * channels + i % channels;
    float dprediction = 0;
    if (OBJECTIVE != 2) {
      float error = scale * output[from] - target[at];
      squares += error * error;
      dprediction = scale * error * (2.0f / size);
    }
    if (OBJECTIVE != 0) {
      float f = OUTPUTS == 2 ? 0.5f * (output[from + channels] + 1.0f) : 0.0f;
      float log_variance = OUTPUTS == 2 ? f * c[5] + (1.0f - f) * c[4] : c[3];
      float x0_hat = c[0] * xt[at] + c[1] * output[from];
      Term term = t > 1 ? kl(x0[at], x0_hat, log_variance, c)
                        : decoder(x0[at], x0_hat, log_variance);
      nats += term.nats;
      if (OBJECTIVE == 2) dprediction = per_nat * c[1] * term.dx0_hat;
      if (OUTPUTS == 2)
        doutput[from + channels] = share * per_nat * 0.5f * (c[5] - c[4]) * term.dlog_variance;
    }
    doutput[from] = share * dprediction;
  }
  float loss = block_sum<256>(squares / size + per_nat * nats, partial);
  // After a step that failed its batch may be another: the losses that were found stay.
  if (threadIdx.x == 0 && !state[1]) losses[(long long)(state[0] % ROWS) * batch + image] = loss;
}
