// SPDX-License-Identifier: Apache-2.0
// Functions of one number, plain enough for the compiler to do as many at once as fit a vector, which it does not do with libm's.
#pragma once

#include <cstdint>
#include <cstring>

namespace tigr {

// Cephes' polynomial: relative error 1e-7.
inline float exponential(float x) {
  x = x < -87.0f ? -87.0f : (x > 88.0f ? 88.0f : x);
  const float shifted = x * 1.44269504f + 12582912.0f;  // 1.5 * 2^23: rounds to the next integer
  const float n = shifted - 12582912.0f;
  const float r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  const int32_t bits = (static_cast<int32_t>(n) + 127) << 23;  // 2^n
  float power;
  std::memcpy(&power, &bits, sizeof(power));
  return p * power;
}

inline float sigmoid(float x) { return 1.0f / (1.0f + exponential(-x)); }
inline float hyperbolic_tangent(float x) { return 1.0f - 2.0f / (1.0f + exponential(2.0f * x)); }

// log((1 + s) / (1 - s)) for |s| up to a third: its series; relative error 1e-7.
inline float log_ratio(float s) {
  const float q = s * s;
  float p = 1.0f / 13.0f;
  p = p * q + 1.0f / 11.0f;
  p = p * q + 1.0f / 9.0f;
  p = p * q + 1.0f / 7.0f;
  p = p * q + 1.0f / 5.0f;
  p = p * q + 1.0f / 3.0f;
  return 2.0f * s * (p * q + 1.0f);
}

// The logarithm of a normal number above zero, and of no other, NaN included; relative error 3e-7.
inline float logarithm(float x) {
  int32_t bits;
  std::memcpy(&bits, &x, sizeof(bits));
  const int32_t n = (bits - 0x3f3504f3) >> 23;  // x = 2^n m, m from sqrt(1/2) to sqrt(2)
  bits -= n << 23;
  float m;
  std::memcpy(&m, &bits, sizeof(m));
  return n * 0.693359375f - n * 2.12194440e-4f + log_ratio((m - 1.0f) / (m + 1.0f));
}

// log(1 + exp(x)), relative error 3e-7; NaN stays NaN.
inline float softplus(float x) {
  const float e = exponential(x < 0.0f ? x : -x);
  return (x < 0.0f ? 0.0f : x) + log_ratio(e / (2.0f + e));  // of 1 + e
}

}  // namespace tigr
