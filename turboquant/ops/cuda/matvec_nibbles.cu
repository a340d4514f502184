// SPDX-License-Identifier: Apache-2.0
// One token. A lane loads 16 bytes at a time: the codes of four rows of a panel, 8 columns each, so
// that half a warp has a group of 32 columns and a warp a pair of groups. Both groups of a pair lie
// in one operand of an integer product, as different rows of it. The other operand has a column per
// group of eight: four pairs add up in one accumulator, and every lane ends with sums of the group
// that it has the scales of.
// Lane 4 g + t: rows 4 (g % 4).. of the panel, group g / 4 of a pair, columns 4t.. and 16 + 4t...
#include "turboquant/ops/cuda/decode_group.cuh"
#include "turboquant/ops/cuda/matvec_block.cuh"
#include "turboquant/ops/cuda/matvec_nibbles.h"
#include "turboquant/ops/cuda/token_launch.cuh"
#include "turboquant/ops/cuda/token_unit.cuh"

namespace tq::cuda {
namespace {

constexpr int kPairs = kTokenUnitGroups / 2;  // of groups, of a unit

__device__ __forceinline__ uint4 LoadCodes(const uint8_t* p) {
  uint4 v;
  asm volatile("ld.global.nc.L1::no_allocate.v4.b32 {%0,%1,%2,%3}, [%4];"
               : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
               : "l"(p));
  return v;
}
__device__ __forceinline__ uint2 LoadHalves(const uint8_t* p) {
  uint2 v;
  asm volatile("ld.global.nc.L1::no_allocate.v2.b32 {%0,%1}, [%2];"
               : "=r"(v.x), "=r"(v.y)
               : "l"(p));
  return v;
}
__device__ __forceinline__ float HalfOf(uint2 halves, int i) {
  const uint32_t word = i < 2 ? halves.x : halves.y;
  return __half2float(__ushort_as_half(static_cast<unsigned short>(word >> (16 * (i % 2)))));
}

// Scales of four rows of one group, as they lie in memory.
template <typename L>
struct RowScales {
  uint2 d, m;
  uint32_t fine[2];

  __device__ __forceinline__ void Load(const uint8_t* record, int in_record, int quad) {
    d = LoadHalves(record + 8 * quad);
    if constexpr (L::kMin) m = LoadHalves(record + 32 + 8 * quad);
    if constexpr (L::kScales == ScaleKind::kSuper32)
      fine[0] = LoadWord(record + 32 + 16 * in_record + 4 * quad);
    if constexpr (L::kScales == ScaleKind::kSuperMin32) {
      fine[0] = LoadWord(record + 64 + 32 * in_record + 4 * quad);
      fine[1] = LoadWord(record + 80 + 32 * in_record + 4 * quad);
    }
  }
  __device__ __forceinline__ float Scale(int i) const {
    const float scale = HalfOf(d, i);
    if constexpr (L::kScales == ScaleKind::kSuper32) return scale * SignedByte(fine[0], i);
    if constexpr (L::kScales == ScaleKind::kSuperMin32)
      return scale * static_cast<float>(fine[0] >> (8 * i) & 255u);
    return scale;
  }
  __device__ __forceinline__ float Offset(int i) const {
    if constexpr (L::kScales == ScaleKind::kHalfMin) return HalfOf(m, i);
    if constexpr (L::kScales == ScaleKind::kSuperMin32)
      return -(HalfOf(m, i) * static_cast<float>(fine[1] >> (8 * i) & 255u));
    return 0.0f;
  }
};

template <typename L>
__device__ __forceinline__ const uint8_t* RecordOf(const uint8_t* panel, int group) {
  return panel + group / L::kGroupsPerRecord * L::kRecordBytes;
}

// What a lane holds of a unit of groups from `first` on; scales of group 2 t + g / 4.
template <typename L>
struct Unit {
  uint4 codes[kPairs];
  RowScales<L> scales;

  __device__ __forceinline__ void Load(const MatVecParams& p, const uint8_t* panel, int first,
                                       int lane) {
    const int t = lane & 3, quad = lane >> 2 & 3, half = lane >> 4;
#pragma unroll
    for (int i = 0; i < kPairs; ++i) {
      const int group = min(first + 2 * i + half, p.groups - 1);
      codes[i] = LoadCodes(RecordOf<L>(panel, group) + L::kScaleBytes +
                           group % L::kGroupsPerRecord * L::kGroupBytes + 64 * t + 16 * quad);
    }
    const int group = min(first + 2 * t + half, p.groups - 1);
    scales.Load(RecordOf<L>(panel, group), group % L::kGroupsPerRecord, quad);
  }
};

template <typename L>
__device__ __forceinline__ void Codes(uint32_t word, uint32_t& low, uint32_t& high) {
  PlaneWords<L> planes;
  planes.word[0] = word;
  const CodeWordPair codes = SignedCodes<L>(planes, 0);
  low = codes.low;
  high = codes.high;
}

// `dot`: sum of a row's codes times x's codes; x: scale, and sum of values.
template <typename L>
__device__ __forceinline__ void AddRow(const RowScales<L>& scales, int row, int dot, float2 x,
                                       float& acc) {
  const float y = fmaf(__int_as_float(dot) - kMagicFloat, x.x, -static_cast<float>(L::kZero) * x.y);
  acc = fmaf(scales.Scale(row), y, acc);
  if constexpr (L::kMin) acc = fmaf(scales.Offset(row), x.y, acc);
}

// Lane's sums: four rows of its group.
template <typename L>
__device__ __forceinline__ void AddUnit(const Unit<L>& unit, const TokenUnit& token, int lane,
                                        float (&acc)[4]) {
  const int g = lane >> 2, half = lane >> 4;
  const uint2 x = token.codes;
  const float2 scale_sum = token.scale_sum;
  int upper[4] = {kMagic, kMagic, kMagic, kMagic}, lower[4] = {kMagic, kMagic, kMagic, kMagic};
#pragma unroll
  for (int i = 0; i < kPairs; ++i) {
    const uint32_t b0 = g >> 1 == i ? x.x : 0u, b1 = g >> 1 == i ? x.y : 0u;
    uint32_t low[4], high[4];
    Codes<L>(unit.codes[i].x, low[0], high[0]);
    Codes<L>(unit.codes[i].y, low[1], high[1]);
    Codes<L>(unit.codes[i].z, low[2], high[2]);
    Codes<L>(unit.codes[i].w, low[3], high[3]);
    Mma32(upper, upper, low[0], low[1], high[0], high[1], b0, b1);
    Mma32(lower, lower, low[2], low[3], high[2], high[3], b0, b1);
  }
  AddRow(unit.scales, 0, half == 0 ? upper[0] : upper[1], scale_sum, acc[0]);
  AddRow(unit.scales, 1, half == 0 ? upper[2] : upper[3], scale_sum, acc[1]);
  AddRow(unit.scales, 2, half == 0 ? lower[0] : lower[1], scale_sum, acc[2]);
  AddRow(unit.scales, 3, half == 0 ? lower[2] : lower[3], scale_sum, acc[3]);
}

// kFloats: the token comes as floats.
template <typename L, bool kFloats>
__global__ void __launch_bounds__(kMatVecThreads, 3) NibbleMatVec(const MatVecParams p) {
  __shared__ float sums[kMatVecWarps * kPanelRows];
  const int warp = threadIdx.x / 32, warps = blockDim.x / 32, lane = threadIdx.x % 32;
  const uint8_t* panel = p.panels + blockIdx.x * p.panel_bytes;
  const int step = warps * kTokenUnitGroups;
  int first = warp * kTokenUnitGroups;
  Unit<L> unit, next;
  if (first < p.groups) unit.Load(p, panel, first, lane);  // weights never change
  if (first + step < p.groups) next.Load(p, panel, first + step, lane);
  LetNextStart();
  WaitForInputs();
  TokenUnit x, next_x;
  if constexpr (kFloats) {
    FloatUnit floats, next_floats;
    floats.Load(p, first, lane);
    next_floats.Load(p, first + step, lane);
    x = floats.Quantized(lane);
    next_x = next_floats.Quantized(lane);
  } else {
    x.LoadRecords(p, first, lane);
    next_x.LoadRecords(p, first + step, lane);
  }
  float acc[4] = {};
  while (first < p.groups) {
    AddUnit(unit, x, lane, acc);
    unit = next;
    x = next_x;
    first += step;
    if (first + step < p.groups) {
      next.Load(p, panel, first + step, lane);
      if constexpr (kFloats) {
        FloatUnit floats;
        floats.Load(p, first + step, lane);
        next_x = floats.Quantized(lane);
      } else {
        next_x.LoadRecords(p, first + step, lane);
      }
    }
  }
  // Lanes that have the same rows: of the other half, and with another t.
  const int t = lane & 3, quad = lane >> 2 & 3;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    acc[i] += __shfl_xor_sync(0xffffffffu, acc[i], 16);
    acc[i] += __shfl_xor_sync(0xffffffffu, acc[i], 1);
    acc[i] += __shfl_xor_sync(0xffffffffu, acc[i], 2);
  }
  float* mine = sums + warp * kPanelRows;
  if (lane < 16 && t == 0) {
#pragma unroll
    for (int i = 0; i < 4; ++i) mine[4 * quad + i] = acc[i];
  }
  FinishPanel<1>(p, sums);
}

}  // namespace

bool LaunchNibbleMatVec(int layout, const MatVecParams& params, unsigned panels, unsigned threads,
                        cudaStream_t stream) {
  bool launched = false;
  ForLayout(layout, [&]<typename L>() {
    if constexpr (L::kBits == 4) {
      const auto kernel =
          params.records == nullptr ? NibbleMatVec<L, true> : NibbleMatVec<L, false>;
      LaunchForTokens(params.tokens, kernel, dim3(panels), threads, stream, params);
      launched = true;
    }
  });
  return launched;
}

}  // namespace tq::cuda
