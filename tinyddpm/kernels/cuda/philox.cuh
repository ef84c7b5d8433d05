// Philox4x32-10, the same integers as tinyddpm.rng, and its uniforms and normals.
//
//   key     = (seed, stream)                 counter = (block, sample, step, site)
#include "prims.cuh"

__device__ __forceinline__ uint4 philox(unsigned block, unsigned sample, unsigned step,
                                        unsigned site, unsigned seed, unsigned stream) {
  uint4 c = make_uint4(block, sample, step, site);
  unsigned k0 = seed, k1 = stream;
  for (int round = 0; round < 10; round++) {
    unsigned high0 = __umulhi(0xD2511F53u, c.x), low0 = 0xD2511F53u * c.x;
    unsigned high1 = __umulhi(0xCD9E8D57u, c.z), low1 = 0xCD9E8D57u * c.z;
    c = make_uint4(high1 ^ c.y ^ k0, low1, high0 ^ c.w ^ k1, low0);
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return c;
}

// In (0, 1), all its 33 bits.
__device__ __forceinline__ double uniform(unsigned word) { return (word + 0.5) * 0x1p-32; }

// Box–Muller, computed in float64 and then rounded, as tinyddpm.rng.normal does: in float32 the
// logarithm of a uniform near 1 would have few digits left.
__device__ __forceinline__ float2 normal_pair(unsigned word1, unsigned word2) {
  double radius = sqrt(-2.0 * log(uniform(word1))), sine, cosine;
  sincospi(2.0 * uniform(word2), &sine, &cosine);
  return make_float2((float)(radius * cosine), (float)(radius * sine));
}

__device__ __forceinline__ float4 normals(uint4 words) {
  float2 first = normal_pair(words.x, words.y), second = normal_pair(words.z, words.w);
  return make_float4(first.x, first.y, second.x, second.y);
}
