// Which pixel of its source a pixel of a convolution's result meets at which tap; for the
// convolution itself and for its transpose (the gradient of its input, and nearest doubling).
//
// Along one axis, with stride s, padding p before the source and taps a,
//     convolution   result i meets source  s i + a - p
//     transpose     result r meets source  (r + p - a) / s,  where that is whole
// The results of a transpose that agree in r mod s, its phase, meet the same taps, so that each phase
// is a convolution of its own over these taps alone. Both read: with t numbering the taps that count,
//     result  phase + phases i  meets source  scale i + first + step t  at tap  tap + tap_step t
struct Axis {
  int phase, phases, results;
  int scale, first, step;
  int tap, tap_step, taps;
};

__device__ __forceinline__ Axis axis_of(bool transpose, int size, int taps, int stride, int before,
                                        int phase) {
  if (!transpose) return {0, 1, size, stride, -before, 1, 0, 1, taps};
  int tap = (phase + before) % stride;
  return {phase, stride, (size - phase + stride - 1) / stride,
          1, (phase + before - tap) / stride, -1,
          tap, stride, (taps - tap + stride - 1) / stride};
}

// Images and both axes; source_h × source_w is the size of an image of the source.
struct Gather {
  Axis y, x;
  int images, source_h, source_w;
};

// A result of one phase, by its number taken apart.
struct Result {
  int image, y, x;
};

__device__ __forceinline__ int results(const Gather& g) { return g.images * g.y.results * g.x.results; }

__device__ __forceinline__ Result result(const Gather& g, int number) {
  int row = number / g.x.results;
  return {row / g.y.results, row % g.y.results, number % g.x.results};
}

// The result whose number is the sum of the numbers of `r` and `by`: digits are added, and carried.
__device__ __forceinline__ Result plus(const Gather& g, const Result& r, const Result& by) {
  int x = r.x + by.x, over_x = x >= g.x.results;
  int y = r.y + by.y + over_x, over_y = y >= g.y.results;
  return {r.image + by.image + over_y, over_y ? y - g.y.results : y, over_x ? x - g.x.results : x};
}

// A place in the source, which may lie in the padding: then it is not inside.
__device__ __forceinline__ bool inside(const Gather& g, int y, int x) {
  return ((unsigned)y < (unsigned)g.source_h) & ((unsigned)x < (unsigned)g.source_w);
}

// The number of the source pixel that `r` meets at tap (ty, tx), or -1: in the padding, or no result.
__device__ __forceinline__ int source_pixel(const Gather& g, const Result& r, int ty, int tx) {
  int y = g.y.scale * r.y + g.y.first + g.y.step * ty;
  int x = g.x.scale * r.x + g.x.first + g.x.step * tx;
  bool is = (r.image < g.images) & inside(g, y, x);
  return is ? (r.image * g.source_h + y) * g.source_w + x : -1;
}

// The number of a result among all pixels of the result's images.
__device__ __forceinline__ int result_pixel(const Gather& g, const Result& r, int h, int w) {
  return (r.image * h + g.y.phase + g.y.phases * r.y) * w + g.x.phase + g.x.phases * r.x;
}
