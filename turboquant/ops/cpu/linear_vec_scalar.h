// SPDX-License-Identifier: Apache-2.0
// The vector operations of the linear kernels in plain C++: four rows, loops that any compiler can
// vectorise.
#pragma once

#include <cstdint>

#include "turboquant/base/half.h"

namespace tq::scalar {
namespace {  // no weak symbols

struct Vec {
  static constexpr int kLanes = 4;
  static constexpr int kInt8Tokens = 1;
  static constexpr int kFloatTokens = 2;
  struct Bytes {
    uint8_t v[4 * kLanes];
  };
  struct Ints {
    int32_t v[kLanes];
  };
  struct Floats {
    float v[kLanes];
  };

  template <typename Fn>
  static Bytes MakeBytes(Fn fn) {
    Bytes r;
    for (int i = 0; i < 4 * kLanes; ++i) r.v[i] = static_cast<uint8_t>(fn(i));
    return r;
  }
  template <typename Fn>
  static Floats MakeFloats(Fn fn) {
    Floats r;
    for (int i = 0; i < kLanes; ++i) r.v[i] = fn(i);
    return r;
  }

  static Bytes LoadBytes(const uint8_t* p) {
    return MakeBytes([&](int i) { return p[i]; });
  }
  template <int kShift, int kMask>
  static Bytes ShiftMask(Bytes a) {
    return MakeBytes([&](int i) {
      return (kShift >= 0 ? a.v[i] << (kShift >= 0 ? kShift : 0)
                          : a.v[i] >> (kShift < 0 ? -kShift : 0)) &
             kMask;
    });
  }
  static Bytes Or(Bytes a, Bytes b) {
    return MakeBytes([&](int i) { return a.v[i] | b.v[i]; });
  }
  static Bytes LookUp16(const uint8_t* table, Bytes a) {
    return MakeBytes([&](int i) { return table[a.v[i] & 15]; });
  }

  static Ints Zero() { return Ints{}; }
  template <int kLog2>
  static Ints BroadcastShifted(const int32_t* p) {
    Ints r;
    for (int i = 0; i < kLanes; ++i) r.v[i] = *p * (1 << kLog2);
    return r;
  }
  using Sums = Ints;
  template <int kMaxCode>
  static constexpr int kVectorsThatFit = 8;
  // Four bytes for all lanes, unlike other Bytes.
  static Bytes BroadcastCodes(const int8_t* x) {
    Bytes b{};
    for (int i = 0; i < 4; ++i) b.v[i] = static_cast<uint8_t>(x[i]);
    return b;
  }
  template <int kMaxCode>
  static Sums Accumulate(Sums sums, Bytes codes, Bytes x) {
    for (int i = 0; i < kLanes; ++i) {
      for (int byte = 0; byte < 4; ++byte)
        sums.v[i] += codes.v[4 * i + byte] * static_cast<int8_t>(x.v[byte]);
    }
    return sums;
  }
  static Ints Widen(Ints acc, Sums sums) {
    for (int i = 0; i < kLanes; ++i) acc.v[i] += sums.v[i];
    return acc;
  }
  static constexpr bool kWideIsSigned = false;
  static Floats ToFloat(Ints a) {
    return MakeFloats([&](int i) { return static_cast<float>(a.v[i]); });
  }
  template <int kByte>
  static Floats ByteToFloat(Bytes a) {
    return MakeFloats([&](int i) { return static_cast<float>(a.v[4 * i + kByte]); });
  }

  static Floats ZeroFloat() { return Floats{}; }
  static Floats Broadcast(const float* p) { return Set(*p); }
  static Floats Set(float f) {
    return MakeFloats([&](int) { return f; });
  }
  static Floats Mul(Floats a, Floats b) {
    return MakeFloats([&](int i) { return a.v[i] * b.v[i]; });
  }
  static Floats Add(Floats a, Floats b) {
    return MakeFloats([&](int i) { return a.v[i] + b.v[i]; });
  }
  static Floats Sub(Floats a, Floats b) {
    return MakeFloats([&](int i) { return a.v[i] - b.v[i]; });
  }
  static Floats Fma(Floats a, Floats b, Floats c) {
    return MakeFloats([&](int i) { return a.v[i] * b.v[i] + c.v[i]; });
  }
  static Floats Load(const float* p) {
    return MakeFloats([&](int i) { return p[i]; });
  }
  static void Store(float* p, Floats a) {
    for (int i = 0; i < kLanes; ++i) p[i] = a.v[i];
  }
  static uint16_t Bits16(const uint8_t* p) { return static_cast<uint16_t>(p[0] | p[1] << 8); }
  static Floats LoadHalf(const uint8_t* p) {
    return MakeFloats([&](int i) { return HalfToFloat(Bits16(p + 2 * i)); });
  }
  static Floats LoadBf16(const uint8_t* p) {
    return MakeFloats([&](int i) { return BFloat16ToFloat(Bits16(p + 2 * i)); });
  }
  static Floats LoadU8(const uint8_t* p) {
    return MakeFloats([&](int i) { return static_cast<float>(p[i]); });
  }
  static Floats LoadS8(const uint8_t* p) {
    return MakeFloats([&](int i) { return static_cast<float>(static_cast<int8_t>(p[i])); });
  }
  static Floats LoadLowNibble(const uint8_t* p) {
    return MakeFloats([&](int i) { return static_cast<float>(p[i] & 15); });
  }
  static Floats LoadHighNibble(const uint8_t* p) {
    return MakeFloats([&](int i) { return static_cast<float>(p[i] >> 4); });
  }
};

}  // namespace
}  // namespace tq::scalar
