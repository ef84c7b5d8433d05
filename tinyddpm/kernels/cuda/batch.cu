// The batch of a training step, from bytes to x_t, in one pass: pick, mirror, scale, noise.
//
//   x0 = byte / 127.5 − 1        xt = √ᾱ_t x0 + √(1 − ᾱ_t) ε
//   target: of the scaled prediction, by PREDICT: 0 ε · 1 x0 · 2 √ᾱ_t ε − √(1 − ᾱ_t) x0 · 3 −ε
//           (a score times √(1 − ᾱ_t) is −ε)
//
// A thread makes four neighbouring elements of one image from one Philox block. `step` counts from
// 1 and lies on the device, for a captured graph has its arguments fixed. `times` are drawn uniformly
// here, unless they are given.
#include "philox.cuh"

// The image at a place of the batch. `orders` has the order of an epoch in row epoch modulo `rows`.
__device__ __forceinline__ int picked(const int* orders, unsigned step, int place, int batch,
                                      int count, int rows) {
  unsigned long long position = (unsigned long long)(step - 1) * batch + place;
  return orders[position / count % rows * count + position % count];
}

extern "C" __global__ void __launch_bounds__(256)
noised_batch(const unsigned char* images, const int* orders, const unsigned* step,
             const float* signal, const float* noise, float* x0, float* xt, float* target,
             int* times, int given, int count, int rows, int batch, int pixels, int width,
             int channels, int T, unsigned seed) {
  int block = blockIdx.y * 256 + threadIdx.x, place = blockIdx.x, size = pixels * channels;
  if (4 * block >= size) return;
  unsigned drawn = philox(0, place, *step, 0, seed, STREAM_T).x;
  int t = given ? times[place] : (int)(((unsigned long long)drawn * T >> 32) + 1);
  if (!given && block == 0) times[place] = t;
  bool mirrored = FLIPS && philox(0, place, *step, 0, seed, STREAM_FLIP).x >> 31;
  long long index = picked(orders, *step, place, batch, count, rows);
  const unsigned char* image = images + index * size;
  float4 four = normals(philox(block, place, *step, 0, seed, STREAM_NOISE));
  float eps[4] = {four.x, four.y, four.z, four.w};
  for (int k = 0; k < 4; k++) {
    int i = 4 * block + k;
    if (i >= size) return;
    int column = i / channels % width;
    int from = mirrored ? i + (width - 1 - 2 * column) * channels : i;
    float clean = image[from] / 127.5f - 1.0f, e = eps[k];
    long long at = (long long)place * size + i;
    x0[at] = clean;
    xt[at] = signal[t] * clean + noise[t] * e;
    if (PREDICT == 0) target[at] = e;
    if (PREDICT == 1) target[at] = clean;
    if (PREDICT == 2) target[at] = signal[t] * e - noise[t] * clean;
    if (PREDICT == 3) target[at] = -e;
  }
}

// The labels of the batch, each replaced by null_label with probability `dropped`.
extern "C" __global__ void __launch_bounds__(256)
told_labels(const unsigned char* labels, const int* orders, const unsigned* step, int* told,
            int count, int rows, int batch, int null_label, double dropped, unsigned seed) {
  int place = blockIdx.x * 256 + threadIdx.x;
  if (place >= batch) return;
  bool drop = uniform(philox(0, place, *step, 0, seed, STREAM_LABELS).x) < dropped;
  told[place] = drop ? null_label : labels[picked(orders, *step, place, batch, count, rows)];
}

// Dropout's masks: 1 with probability 1 − rate, where threshold = rate · 2³².
extern "C" __global__ void __launch_bounds__(256)
keep_mask(unsigned char* ALIGNED keep, const unsigned* step, int size, int site, unsigned threshold,
          unsigned seed) {
  int block = blockIdx.y * 256 + threadIdx.x, image = blockIdx.x;
  if (4 * block >= size) return;
  uint4 drawn = philox(block, image, *step, site, seed, STREAM_DROPOUT);
  unsigned words[4] = {drawn.x, drawn.y, drawn.z, drawn.w}, four = 0;
  for (int k = 0; k < 4; k++) four |= (unsigned)(words[k] >= threshold) << 8 * k;
  unsigned char* mine = keep + (long long)image * size + 4 * block;
  if (size % 4 == 0) *(unsigned*)mine = four;
  else
    for (int k = 0; k < 4 && 4 * block + k < size; k++) mine[k] = four >> 8 * k & 1;
}
