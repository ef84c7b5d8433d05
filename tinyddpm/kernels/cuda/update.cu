// What follows the backward pass: norm, clip, Adam, EMA.
//
// Sums have a fixed order (no atomics), so that a step gives the same bits whenever it is done.
// What changes from step to step is on the device:
//   state[0]  the step, counted from 1
//   state[1]  the step at which a loss or gradient was not finite, 0 while there is none: from there
//             on nothing is updated
//   scalars   clip, lr / (1 − β₁^step), 1 / (1 − β₂^step), 1 − decay
//   losses, norms: a row for each of the last ROWS steps, which the host reads now and then
#include "prims.cuh"

// One warp: everything about the update that is a single number. Ends the step.
extern "C" __global__ void __launch_bounds__(32)
begin_update(const float* partial_squares, const float* losses, unsigned* state, float* norms,
             float* scalars, int partials, int batch, double peak_lr, double warmup,
             double decay_from, double limit, double beta1, double beta2, double decay) {
  unsigned step = state[0];
  double square = 0, loss = 0;
  for (int i = threadIdx.x; i < partials; i += 32) square += partial_squares[i];
  for (int i = threadIdx.x; i < batch; i += 32)
    loss += losses[(long long)(step % ROWS) * batch + i];
  for (int distance = 16; distance; distance /= 2) {
    square += __shfl_xor_sync(FULL_WARP, square, distance);
    loss += __shfl_xor_sync(FULL_WARP, loss, distance);
  }
  if (threadIdx.x != 0 || state[1]) return;
  float norm = (float)sqrt(square);
  norms[step % ROWS] = norm;
  if (!isfinite(norm) || !isfinite(loss)) {
    state[1] = step;
    return;
  }
  double falling = decay_from > 0 ? sqrt(decay_from / step) : 1.0;
  double lr = peak_lr * min(min(1.0, step / max(warmup, 1.0)), falling);
  scalars[0] = (float)min(1.0, limit / (norm + 1e-12));
  scalars[1] = (float)(lr / (1.0 - pow(beta1, (double)step)));
  scalars[2] = (float)(1.0 / (1.0 - pow(beta2, (double)step)));
  scalars[3] = (float)(1.0 - min(decay, (1.0 + step) / (10.0 + step)));
  state[0] = step + 1;
}

// m ← β₁ m + (1 − β₁) g        v ← β₂ v + (1 − β₂) g²        g = clip · grad
// value ← value − lr m_hat / (√v_hat + adam_eps)             ema ← ema + (1 − decay) (value − ema)
extern "C" __global__ void __launch_bounds__(256)
adam_ema(const float* grad, float* value, float* m, float* v, float* ema, const float* scalars,
         const unsigned* state, float beta1, float rest1, float beta2, float rest2, float adam_eps,
         long long count) {
  long long i = blockIdx.x * 256LL + threadIdx.x;
  if (i >= count || state[1]) return;
  float g = scalars[0] * grad[i];
  float m_new = beta1 * m[i] + rest1 * g, v_new = beta2 * v[i] + rest2 * (g * g);
  float x = value[i] - scalars[1] * m_new / (sqrtf(v_new * scalars[2]) + adam_eps);
  m[i] = m_new;
  v[i] = v_new;
  value[i] = x;
  ema[i] += scalars[3] * (x - ema[i]);
}
