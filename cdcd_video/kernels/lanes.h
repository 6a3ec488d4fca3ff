// What the kernels of this folder share: 16 numbers at a time, float32 in the register, float32 or bfloat16 in memory.
#pragma once

#include <immintrin.h>

#include <cstdint>

namespace {

using Vec = __m512;     // 16 float32
using Words = __m512i;  // 16 words of 32 bits
using Mask = __mmask16;

constexpr int LANES = 16;

inline Vec floats(Words x) { return _mm512_castsi512_ps(x); }
inline Words words(Vec x) { return _mm512_castps_si512(x); }
inline Mask first(int n) { return n >= LANES ? 0xffff : n > 0 ? Mask((1u << n) - 1) : 0; }

struct InSingle {
  using Number = float;
  static Vec get(const float* p, Mask m) { return _mm512_maskz_loadu_ps(m, p); }
  static void put(float* p, Mask m, Vec x) { _mm512_mask_storeu_ps(p, m, x); }
};

#ifdef __AVX512BF16__
struct InHalf {
  using Number = uint16_t;
  static Vec get(const uint16_t* p, Mask m) {
    return floats(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(m, p)), 16));
  }
  static void put(uint16_t* p, Mask m, Vec x) { _mm256_mask_storeu_epi16(p, m, (__m256i)_mm512_cvtneps_pbh(x)); }
};
#endif

}  // namespace
