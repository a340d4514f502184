// SPDX-License-Identifier: Apache-2.0
// A lane loads 16 bytes at a time: the codes of four rows of a panel, 8 columns each, so that half
// a warp has a group of 32 columns and a warp a pair of groups. Both groups of a pair lie in one
// operand of an integer product, as different rows of it. The other operand has tokens in its
// columns:
//   one token    a column per group of eight: four pairs add up in one accumulator, each in columns
//                of its own, and every lane ends with sums of the group that it has the scales of
//   more tokens  a product per group of a pair, of which each lane keeps the one of its half
// Lane 4 g + t: rows 4 (g % 4).. of the panel, group g / 4 of a pair, columns 4t.. and 16 + 4t...
#include "turboquant/base/cuda/chained_launch.cuh"
#include "turboquant/ops/cuda/decode_group.cuh"
#include "turboquant/ops/cuda/matvec_block.cuh"
#include "turboquant/ops/cuda/matvec_nibbles.h"

namespace tq::cuda {
namespace {

// Tokens in the columns of a product. One: a warp takes four pairs of groups at a time. More: four,
// or two where many blocks share a multiprocessor.
enum class Columns { kOne, kFewDeep, kFew };
constexpr unsigned kFewPanels = 2 * 132;  // no more than two for a multiprocessor of a large device
template <Columns kColumns>
constexpr int kPairs = kColumns == Columns::kFew ? 2 : 4;

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

// What a lane holds of a unit of groups from `first` on. Scales: one token takes those of group
// 2 t + g / 4; more, those of its group of each pair.
template <typename L, Columns kColumns>
struct Unit {
  static constexpr bool kOne = kColumns == Columns::kOne;
  static constexpr int kCount = kPairs<kColumns>;
  uint4 codes[kCount];
  RowScales<L> scales[kOne ? 1 : kCount];

  __device__ __forceinline__ void Load(const MatVecParams& p, const uint8_t* panel, int first,
                                       int lane) {
    const int t = lane & 3, quad = lane >> 2 & 3, half = lane >> 4;
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      const int group = min(first + 2 * i + half, p.groups - 1);
      codes[i] = LoadCodes(RecordOf<L>(panel, group) + L::kScaleBytes +
                           group % L::kGroupsPerRecord * L::kGroupBytes + 64 * t + 16 * quad);
    }
#pragma unroll
    for (int i = 0; i < (kOne ? 1 : kCount); ++i) {
      const int group = min(first + (kOne ? 2 * t : 2 * i) + half, p.groups - 1);
      scales[i].Load(RecordOf<L>(panel, group), group % L::kGroupsPerRecord, quad);
    }
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

__device__ __forceinline__ const uint8_t* XRecord(const MatVecParams& p, int group) {
  return p.records + int64_t{min(group, p.groups - 1)} * kTokenRecordBytes;
}

// One token. Lane's sums: four rows of its group.
template <typename L>
__device__ __forceinline__ void AddUnit(const MatVecParams& p, const Unit<L, Columns::kOne>& unit,
                                        int first, int lane, float (&acc)[4]) {
  const int t = lane & 3, g = lane >> 2, half = lane >> 4;
  const uint2 x = __ldg(reinterpret_cast<const uint2*>(XRecord(p, first + g)) + t);
  const int own = first + 2 * t + half;
  float2 scale_sum = __ldg(reinterpret_cast<const float2*>(XRecord(p, own) + kTokenScales));
  if (own >= p.groups) scale_sum = {0.0f, 0.0f};
  int upper[4] = {kMagic, kMagic, kMagic, kMagic}, lower[4] = {kMagic, kMagic, kMagic, kMagic};
#pragma unroll
  for (int i = 0; i < kPairs<Columns::kOne>; ++i) {
    const uint32_t b0 = g >> 1 == i ? x.x : 0u, b1 = g >> 1 == i ? x.y : 0u;
    uint32_t low[4], high[4];
    Codes<L>(unit.codes[i].x, low[0], high[0]);
    Codes<L>(unit.codes[i].y, low[1], high[1]);
    Codes<L>(unit.codes[i].z, low[2], high[2]);
    Codes<L>(unit.codes[i].w, low[3], high[3]);
    Mma32(upper, low[0], low[1], high[0], high[1], b0, b1);
    Mma32(lower, low[2], low[3], high[2], high[3], b0, b1);
  }
  AddRow(unit.scales[0], 0, half == 0 ? upper[0] : upper[1], scale_sum, acc[0]);
  AddRow(unit.scales[0], 1, half == 0 ? upper[2] : upper[3], scale_sum, acc[1]);
  AddRow(unit.scales[0], 2, half == 0 ? lower[0] : lower[1], scale_sum, acc[2]);
  AddRow(unit.scales[0], 3, half == 0 ? lower[2] : lower[3], scale_sum, acc[3]);
}

// Up to 8 tokens. Lane's sums: four rows and tokens 2t, 2t + 1 over the groups of its half.
template <typename L, Columns kColumns>
__device__ __forceinline__ void AddUnit(const MatVecParams& p, const Unit<L, kColumns>& unit,
                                        int first, int lane, float (&acc)[8]) {
  const int t = lane & 3, g = lane >> 2, half = lane >> 4;
#pragma unroll
  for (int i = 0; i < kPairs<kColumns>; ++i) {
    // Columns of tokens that are not there come to nothing that anybody reads.
    uint2 b[2];
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      b[h] = __ldg(reinterpret_cast<const uint2*>(XRecord(p, first + 2 * i + h)) + 4 * g + t);
    }
    const int own = first + 2 * i + half;
    float4 x = __ldg(reinterpret_cast<const float4*>(XRecord(p, own) + kTokenScales) + t);
    if (own >= p.groups) x = {0.0f, 0.0f, 0.0f, 0.0f};
#pragma unroll
    for (int rows = 0; rows < 2; ++rows) {  // two of the four at a time
      uint32_t low[2], high[2];
      Codes<L>(rows == 0 ? unit.codes[i].x : unit.codes[i].z, low[0], high[0]);
      Codes<L>(rows == 0 ? unit.codes[i].y : unit.codes[i].w, low[1], high[1]);
      int c[2][4];
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        c[h][0] = c[h][1] = c[h][2] = c[h][3] = kMagic;
        Mma32(c[h], low[0], low[1], high[0], high[1], b[h].x, b[h].y);
      }
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        AddRow(unit.scales[i], 2 * rows + j / 2, half == 0 ? c[0][j] : c[1][j],
               j % 2 == 0 ? make_float2(x.x, x.y) : make_float2(x.z, x.w), acc[4 * rows + j]);
      }
    }
  }
}

template <typename L, Columns kColumns>
__global__ void __launch_bounds__(kMatVecThreads, kColumns == Columns::kFewDeep ? 2 : 3)
    NibbleMatVec(const MatVecParams p) {
  constexpr bool kOne = kColumns == Columns::kOne;
  constexpr int kUnitGroups = 2 * kPairs<kColumns>;
  constexpr int kTokens = kOne ? 1 : kFewTokens, kSums = kOne ? 4 : 8;
  __shared__ float sums[kMatVecWarps * kPanelRows * kTokens];
  const int warp = threadIdx.x / 32, warps = blockDim.x / 32, lane = threadIdx.x % 32;
  const uint8_t* panel = p.panels + blockIdx.x * p.panel_bytes;
  const int step = warps * kUnitGroups;
  int first = warp * kUnitGroups;
  Unit<L, kColumns> unit, next;
  if (first < p.groups) unit.Load(p, panel, first, lane);  // weights never change
  if (first + step < p.groups) next.Load(p, panel, first + step, lane);
  LetNextStart();
  WaitForInputs();
  float acc[kSums] = {};
  while (first < p.groups) {
    AddUnit(p, unit, first, lane, acc);
    unit = next;
    first += step;
    if (first + step < p.groups) next.Load(p, panel, first + step, lane);
  }
  // Lanes that have the same rows (and tokens) add up: those of the other half, and, of one token,
  // those with another t.
  const int t = lane & 3, quad = lane >> 2 & 3;
#pragma unroll
  for (int i = 0; i < kSums; ++i) {
    acc[i] += __shfl_xor_sync(0xffffffffu, acc[i], 16);
    if constexpr (kOne) {
      acc[i] += __shfl_xor_sync(0xffffffffu, acc[i], 1);
      acc[i] += __shfl_xor_sync(0xffffffffu, acc[i], 2);
    }
  }
  float* mine = sums + warp * kPanelRows * kTokens;
  if (lane < 16) {
#pragma unroll
    for (int i = 0; i < kSums; ++i) {
      if constexpr (kOne) {
        if (t == 0) mine[4 * quad + i] = acc[i];
      } else {
        mine[(4 * quad + i / 2) * kTokens + 2 * t + i % 2] = acc[i];
      }
    }
  }
  FinishPanel<kTokens>(p, sums);
}

}  // namespace

bool LaunchNibbleMatVec(int layout, const MatVecParams& params, unsigned panels, unsigned threads,
                        cudaStream_t stream) {
  bool launched = false;
  ForLayout(layout, [&]<typename L>() {
    if constexpr (L::kBits == 4) {
      const auto kernel = params.tokens == 1     ? NibbleMatVec<L, Columns::kOne>
                          : panels <= kFewPanels ? NibbleMatVec<L, Columns::kFewDeep>
                                                 : NibbleMatVec<L, Columns::kFew>;
      LaunchChained(kernel, dim3(panels), threads, stream, params);
      launched = true;
    }
  });
  return launched;
}

}  // namespace tq::cuda
