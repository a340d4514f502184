// SPDX-License-Identifier: Apache-2.0
// A "vector" of one float: the plain form of the float kernels.
#pragma once

#include <math.h>
#include <string.h>

#include <cstddef>
#include <cstdint>

#include "turboquant/base/half.h"

namespace tq::scalar {

struct Vec {
  using F = float;
  static constexpr int kWidth = 1;
  static constexpr int kGemmRows = 4;  // register block of the matrix product
  static constexpr int kGemmVectors = 4;

  static F Zero() { return 0; }
  static F Set1(float x) { return x; }
  static F Load(const float* p) { return *p; }
  static void Store(float* p, F x) { *p = x; }
  static F Add(F a, F b) { return a + b; }
  static F Mul(F a, F b) { return a * b; }
  static F Fma(F a, F b, F c) { return a * b + c; }
  static F Max(F a, F b) { return a > b ? a : b; }
  static float Sum(F a) { return a; }
  static float Largest(F a) { return a; }
  static F Exp2(F x) { return x < -126.0f ? 0.0f : ::exp2f(x); }

  static F LoadHalf(const std::byte* p) {
    Half h;
    ::memcpy(&h, p, sizeof h);
    return HalfToFloat(h);
  }
  static F LoadBf16(const std::byte* p) {
    BFloat16 h;
    ::memcpy(&h, p, sizeof h);
    return BFloat16ToFloat(h);
  }
  static F LoadInt8(const std::byte* p) { return static_cast<float>(static_cast<int8_t>(*p)); }
  // Low or high nibbles of kWidth bytes, less 8.
  static F LoadNibbles(const std::byte* p, bool high) {
    const auto byte = static_cast<unsigned>(*p);
    return static_cast<float>(static_cast<int>(high ? byte >> 4 : byte & 15u) - 8);
  }
};

}  // namespace tq::scalar
