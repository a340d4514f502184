// SPDX-License-Identifier: Apache-2.0
// Stands in for turboquant/codec/cuda/lane_ops.cuh on a machine without a GPU (this folder comes
// first among the include paths): a block's threads are coroutines, and warp and block operations
// are where they meet. Asynchronous copies arrive when they are waited for or, in half of the
// blocks, at once.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "emulator.h"
#include "turboquant/base/error.h"
#include "turboquant/base/half.h"

#define TQ_DEVICE inline
#define TQ_KERNEL(threads, blocks) void
#define TQ_GRID_CONSTANT
#define TQ_DEVICE_DATA

struct uint2 {
  uint32_t x, y;
};
struct alignas(16) uint4 {
  uint32_t x, y, z, w;
};
struct float2 {
  float x, y;
};
struct alignas(16) float4 {
  float x, y, z, w;
};

namespace tq::cuda {

inline int ThreadId() { return emulator::Self().id; }
inline int LaneId() { return ThreadId() & 31; }
inline int WarpId() { return ThreadId() >> 5; }
inline int UniformWarpId() { return WarpId(); }
inline int ThreadIdAgain() { return ThreadId(); }
inline int BlockId() { return emulator::Current().block; }
inline int Threads() { return emulator::Current().threads; }
inline std::byte* SharedMemory() { return emulator::Current().shared; }

inline void SyncThreads() { emulator::MeetBlock(); }
inline void SyncSome(int barrier, int threads) { emulator::MeetSome(barrier, threads); }
inline void SyncWarp() { emulator::MeetWarp(); }
inline void WaitForInputs() {}
inline void LetNextStart() {}
inline constexpr int kCacheLine = 128;
inline void PrefetchLine(const std::byte*) {}
inline uint32_t AtomicAdd(uint32_t* p, uint32_t n) {
  const uint32_t old = *p;
  *p += n;
  return old;
}

// Every lane's value of a warp operation.
template <typename T>
struct LaneValues {
  T of[32];
  explicit LaneValues(const T& mine) {
    std::byte* slots = emulator::WarpSlots();
    static_assert(sizeof(T) <= emulator::kSlotBytes);
    std::memcpy(slots + LaneId() * emulator::kSlotBytes, &mine, sizeof(T));
    emulator::MeetWarp();
    for (int i = 0; i < 32; ++i) std::memcpy(&of[i], slots + i * emulator::kSlotBytes, sizeof(T));
    emulator::MeetWarp();
  }
};
template <typename T>
T ShuffleXor(T x, int mask) {
  return LaneValues<T>(x).of[LaneId() ^ mask];
}
template <typename T>
T ShuffleUp(T x, int delta) {
  const LaneValues<T> values(x);
  return LaneId() >= delta ? values.of[LaneId() - delta] : x;
}
template <typename T>
T Shuffle(T x, int lane) {
  return LaneValues<T>(x).of[lane];
}

inline int LastLane(bool yes) {
  const LaneValues<bool> values(yes);
  int lane = 31;
  while (!values.of[lane]) --lane;
  return lane;
}
inline bool AnyLane(bool yes) {
  const LaneValues<bool> values(yes);
  bool any = false;
  for (const bool value : values.of) any |= value;
  return any;
}
inline uint32_t LargestOfLanes(uint32_t x) {
  const LaneValues<uint32_t> values(x);
  uint32_t largest = 0;
  for (const uint32_t value : values.of) largest = value > largest ? value : largest;
  return largest;
}
inline int SumOfLanes(int x) {
  const LaneValues<int> values(x);
  int sum = 0;
  for (const int value : values.of) sum += value;
  return sum;
}

inline uint32_t Prmt(uint32_t a, uint32_t b, uint32_t selector) {
  const uint64_t bytes = a | static_cast<uint64_t>(b) << 32;
  uint32_t result = 0;
  for (int i = 0; i < 4; ++i) {
    const uint32_t nibble = selector >> (4 * i) & 15u;
    auto byte = static_cast<uint32_t>(bytes >> (8 * (nibble & 7u)) & 255u);
    if ((nibble & 8u) != 0) byte = (byte & 128u) != 0 ? 255u : 0u;
    result |= byte << (8 * i);
  }
  return result;
}
inline uint32_t SelectBits(uint32_t mask, uint32_t a, uint32_t b) {
  return (mask & a) | (~mask & b);
}
inline uint32_t AddMin16x2(uint32_t a, uint32_t b, uint32_t c) {
  TQ_CHECK((a & 0xffffu) + (b & 0xffffu) < 65536 && (a >> 16) + (b >> 16) < 65536);
  const uint32_t sum = a + b;
  return std::min(sum & 0xffffu, c & 0xffffu) | std::min(sum >> 16, c >> 16) << 16;
}
inline uint32_t AddClampS16x2(uint32_t a, uint32_t b, uint32_t c) {
  uint32_t result = 0;
  for (int shift = 0; shift < 32; shift += 16) {
    const auto half = [shift](uint32_t x) { return int{static_cast<int16_t>(x >> shift)}; };
    const int sum = half(a) + half(b);
    TQ_CHECK(sum == static_cast<int16_t>(sum));
    result |= static_cast<uint32_t>(std::max(std::min(sum, half(c)), 0)) << shift;
  }
  return result;
}
// Elements of signed types that lie in a word.
template <typename A, typename B>
int DotOfWords(uint32_t a, uint32_t b, int count, int sum) {
  for (int i = 0; i < count; ++i) {
    sum += int{static_cast<A>(a >> (8 * static_cast<int>(sizeof(A)) * i))} *
           int{static_cast<B>(b >> (8 * static_cast<int>(sizeof(B)) * i))};
  }
  return sum;
}
inline int Dp4a(uint32_t a, uint32_t b, int sum) {
  return DotOfWords<int8_t, int8_t>(a, b, 4, sum);
}
inline int Dp2aLow(uint32_t halves, uint32_t bytes, int sum) {
  return DotOfWords<int16_t, int8_t>(halves, bytes, 2, sum);
}
inline int Dp2aHigh(uint32_t halves, uint32_t bytes, int sum) {
  return DotOfWords<int16_t, int8_t>(halves, bytes >> 16, 2, sum);
}
inline uint32_t RotateLeft(uint32_t x, int n) {
  return n % 32 == 0 ? x : x << (n & 31) | x >> (32 - (n & 31));
}
inline uint32_t MulAdd(uint32_t a, uint32_t b, uint32_t c) { return a * b + c; }
inline uint32_t ShiftIn(uint32_t above, uint32_t x, int n) {
  return n == 0 ? x : x >> n | above << (32 - n);
}
inline uint32_t ReverseBits(uint32_t x) {
  uint32_t result = 0;
  for (int i = 0; i < 32; ++i) result |= (x >> i & 1u) << (31 - i);
  return result;
}

// A and B of a matrix product as the lanes hold them.
struct Fragments {
  uint32_t a[4];
  uint32_t b[2];
};

// A byte as its type has it.
template <typename T>
int ByteAs(uint32_t bits) {
  return static_cast<T>(bits);
}
template <typename A, typename B>
void MmaBytes(int32_t (&c)[4], const Fragments& mine, int depth) {
  const LaneValues<Fragments> lanes(mine);
  const int g = LaneId() >> 2, t = LaneId() & 3;
  for (int e = 0; e < 4; ++e) {
    const int row = g + e / 2 * 8, column = 2 * t + e % 2;
    auto sum = static_cast<uint32_t>(c[e]);  // wraps
    for (int k = 0; k < depth; ++k) {
      const int lane_of_k = k % 16 / 4, half = k / 16, shift = 8 * (k % 4);
      const int a = ByteAs<A>(lanes.of[row % 8 * 4 + lane_of_k].a[half * 2 + row / 8] >> shift);
      const int b = ByteAs<B>(lanes.of[column * 4 + lane_of_k].b[half] >> shift);
      sum += static_cast<uint32_t>(a * b);
    }
    c[e] = static_cast<int32_t>(sum);
  }
}
inline void MmaS8S8(int32_t (&c)[4], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3,
                    uint32_t b0, uint32_t b1) {
  MmaBytes<int8_t, int8_t>(c, {{a0, a1, a2, a3}, {b0, b1}}, 32);
}
inline void MmaS8U8(int32_t (&c)[4], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3,
                    uint32_t b0, uint32_t b1) {
  MmaBytes<int8_t, uint8_t>(c, {{a0, a1, a2, a3}, {b0, b1}}, 32);
}
inline void MmaU8S8(int32_t (&c)[4], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3,
                    uint32_t b0, uint32_t b1) {
  MmaBytes<uint8_t, int8_t>(c, {{a0, a1, a2, a3}, {b0, b1}}, 32);
}
inline void MmaU8U8(int32_t (&c)[4], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3,
                    uint32_t b0, uint32_t b1) {
  MmaBytes<uint8_t, uint8_t>(c, {{a0, a1, a2, a3}, {b0, b1}}, 32);
}
inline void MmaS8S8K16(int32_t (&c)[4], uint32_t a0, uint32_t a1, uint32_t b0) {
  MmaBytes<int8_t, int8_t>(c, {{a0, a1, 0, 0}, {b0, 0}}, 16);
}
inline void MmaU8S8K16(int32_t (&c)[4], uint32_t a0, uint32_t a1, uint32_t b0) {
  MmaBytes<uint8_t, int8_t>(c, {{a0, a1, 0, 0}, {b0, 0}}, 16);
}
inline uint32_t Transpose8x8(uint32_t x) {
  const LaneValues<uint32_t> lanes(x);
  const int g = LaneId() >> 2, t = LaneId() & 3;
  const auto element = [&](int row, int column) {
    return lanes.of[row * 4 + column / 2] >> (16 * (column % 2)) & 0xffffu;
  };
  return element(2 * t, g) | element(2 * t + 1, g) << 16;
}
inline void StoreTransposed(std::byte* row, const uint32_t (&r)[4]) {
  for (int i = 0; i < 4; ++i) {
    const LaneValues<std::byte*> rows(row);
    const uint32_t x = Transpose8x8(r[i]);
    std::memcpy(rows.of[8 * i + (LaneId() >> 2)] + 4 * (LaneId() & 3), &x, sizeof(x));
  }
}
template <int kSets>
struct GroupMma;
inline constexpr bool kHasGroupMma = false;
template <int kRegisters>
void LeaveRegisters() {}
template <int kRegisters>
void TakeRegisters() {}
inline void PublishToGroupMma() {}

inline float Exp2(float x) { return exp2f(x); }
inline uint32_t FloatBits(float x) { return std::bit_cast<uint32_t>(x); }
inline float BitsToFloat(uint32_t x) { return std::bit_cast<float>(x); }
inline float FusedMulAdd(float a, float b, float c) { return fmaf(a, b, c); }
inline float Max(float a, float b) { return fmaxf(a, b); }
inline float Abs(float x) { return fabsf(x); }
inline float FastDivide(float a, float b) { return a / b; }
inline int RoundToInt(float x) { return static_cast<int>(nearbyintf(x)); }
template <typename T>
T LoadL2(const T* p) {
  return *p;
}
inline float MulRn(float a, float b) { return a * b; }
inline float AddRn(float a, float b) { return a + b; }
inline float SubRn(float a, float b) { return a - b; }
inline float DivRn(float a, float b) { return a / b; }
inline float SqrtRn(float x) { return sqrtf(x); }
inline float HalfLow(uint32_t pair) { return HalfToFloat(static_cast<Half>(pair)); }
inline float HalfHigh(uint32_t pair) { return HalfToFloat(static_cast<Half>(pair >> 16)); }
inline uint16_t ToHalf(float x) { return FloatToHalf(x); }
inline uint32_t ToHalves(float low, float high) {
  return FloatToHalf(low) | static_cast<uint32_t>(FloatToHalf(high)) << 16;
}

inline void CopyAsync(std::byte* shared, const std::byte* global, int bytes) {
  TQ_CHECK(reinterpret_cast<uintptr_t>(shared) % 16 == 0);
  TQ_CHECK(reinterpret_cast<uintptr_t>(global) % 16 == 0);
  emulator::Self().copies.push_back({shared, global, bytes, 16});
}
inline void CopyAsync(std::byte* shared, const std::byte* global) { CopyAsync(shared, global, 16); }
inline void CopyCommit() { emulator::CommitCopies(); }
template <int kPending>
void CopyWait() {
  emulator::WaitCopies(kPending);
}

}  // namespace tq::cuda
