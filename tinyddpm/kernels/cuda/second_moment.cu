// Times drawn by what was learnt of the losses there: diffusion.timestep_sampling on the device.
//
//   p_t = (1 − FLOOR) r_t / Σ r + FLOOR / T        r_t = √(mean of the squares of the losses at t)
//
// but 1/T until every t has had LAST losses. The next loss at t goes to place count mod LAST of
// history (T + 1, LAST); row 0 of it, of counts and of cumulative (T + 1,) is not used.
#include "philox.cuh"

#define THREADS 1024
#define FLOOR 0.001

// The sum over the threads up to this one; `sums` holds those of all.
__device__ __forceinline__ double sum_up_to(double x, double* sums) {
  int me = threadIdx.x;
  __syncthreads();
  sums[me] = x;
  __syncthreads();
  for (int distance = 1; distance < THREADS; distance *= 2) {
    double before = me >= distance ? sums[me - distance] : 0.0;
    __syncthreads();
    sums[me] += before;
    __syncthreads();
  }
  return sums[me];
}

struct Learnt {
  const double* history;
  double total; // of r, and 0 where p is uniform
  int T;

  __device__ __forceinline__ double r(int t) const {
    double square = 0;
    for (int i = 0; i < LAST; i++) square += history[LAST * t + i] * history[LAST * t + i];
    return sqrt(square / LAST);
  }
  __device__ __forceinline__ double p(int t) const {
    return total > 0 ? (1.0 - FLOOR) * r(t) / total + FLOOR / T : 1.0 / T;
  }
};

// weights: 1/(T p_t). One block.
extern "C" __global__ void __launch_bounds__(THREADS)
draw_times(const double* history, const int* counts, const unsigned* step, double* cumulative,
           int* times, float* weights, int T, int batch, unsigned seed) {
  __shared__ double sums[THREADS];
  int each = (T + THREADS - 1) / THREADS;
  int first = 1 + threadIdx.x * each, end = min(first + each, T + 1);
  Learnt learnt = {history, 0.0, T};
  double total = 0, lacking = 0, p = 0;
  for (int t = first; t < end; t++) total += learnt.r(t), lacking += counts[t] < LAST;
  sum_up_to(lacking, sums);
  lacking = sums[THREADS - 1];
  sum_up_to(total, sums);
  if (lacking == 0) learnt.total = sums[THREADS - 1];

  for (int t = first; t < end; t++) p += learnt.p(t);
  double before = sum_up_to(p, sums) - p;
  for (int t = first; t < end; t++) cumulative[t] = before += learnt.p(t);
  __syncthreads();

  for (int place = threadIdx.x; place < batch; place += THREADS) {
    double u = uniform(philox(0, place, *step, 0, seed, STREAM_T).x);
    int t = 1, last = T; // the first that u does not reach, or T where rounding leaves none
    while (t < last) {
      int middle = (t + last) / 2;
      if (u < cumulative[middle]) last = middle;
      else t = middle + 1;
    }
    times[place] = t;
    weights[place] = (float)(1.0 / (T * learnt.p(t)));
  }
}

// How many images of the batch before image i, and after it, have its time.
struct Peers {
  int before, after;
};

__device__ __forceinline__ Peers peers(const int* times, int i, int batch) {
  Peers of = {0, 0};
  for (int j = 0; j < i; j++) of.before += times[j] == times[i];
  for (int j = i + 1; j < batch; j++) of.after += times[j] == times[i];
  return of;
}

// Takes in the losses of the step that was done last, unless it failed. One block.
extern "C" __global__ void __launch_bounds__(THREADS)
learn_losses(const float* losses, const int* times, const unsigned* state, double* history,
             int* counts, int batch) {
  if (state[1]) return;
  const float* row = losses + (long long)((state[0] - 1) % ROWS) * batch;
  for (int i = threadIdx.x; i < batch; i += THREADS) {
    Peers of = peers(times, i, batch);
    if (of.after < LAST) history[LAST * times[i] + (counts[times[i]] + of.before) % LAST] = row[i];
  }
  __syncthreads(); // the counts have been read
  for (int i = threadIdx.x; i < batch; i += THREADS) {
    Peers of = peers(times, i, batch);
    if (of.after == 0) counts[times[i]] += of.before + 1;
  }
}
