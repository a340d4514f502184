// SPDX-License-Identifier: Apache-2.0
// The arithmetic that the format fixes, one value at a time.
#pragma once

#include <cstring>

#include "turboquant/base/half.h"

namespace tq::scalar {

inline constexpr float kMaxFloat = 0x1.fffffep127f;
inline constexpr float kMaxHalf = 65504.0f;

inline float Clamp(float x, float limit) { return x > limit ? limit : x < -limit ? -limit : x; }

// NaN is 0, infinities are the largest finite floats: whatever comes in, what is stored decodes to
// finite values.
inline float Sanitize(float x) { return x == x ? Clamp(x, kMaxFloat) : 0.0f; }

inline Half FiniteHalf(float x) { return FloatToHalf(Clamp(x, kMaxHalf)); }

// Nearest integer, ties to even; |x| < 2^22.
inline float RoundHalfEven(float x) {
  constexpr float kShift = 0x1.8p23f;
  return (x + kShift) - kShift;
}

inline Half LoadHalf(const void* p) {
  Half h;
  std::memcpy(&h, p, sizeof h);
  return h;
}
inline void StoreHalf(void* p, Half h) { std::memcpy(p, &h, sizeof h); }

// absmax / 127 as f16, and the int8 code of a value under it.
inline Half ScaleOf8(float absmax) { return FiniteHalf(absmax / 127.0f); }
inline int CodeOf8(float x, float scale) {
  return scale == 0.0f ? 0 : static_cast<int>(RoundHalfEven(Clamp(x / scale, 127.0f)));
}

}  // namespace tq::scalar
