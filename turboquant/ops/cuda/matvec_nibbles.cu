// SPDX-License-Identifier: Apache-2.0
// Weights go through shared memory, each warp's in a ring of its own that is on its way before the
// kernel's inputs are there: while small kernels run, the next matrix is read.
//
// A lane takes 16 bytes at a time: the codes of four rows of a panel, 8 columns each, so that half
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

constexpr int kPairs = 4;  // of groups, that a warp takes at a time: a unit
constexpr int kUnitGroups = 2 * kPairs;
template <typename L>
constexpr int kUnitBytes = static_cast<int>(kUnitGroups / L::kGroupsPerRecord * L::kRecordBytes);

// 16 bytes of weights, which are read once, into shared memory.
__device__ __forceinline__ void CopyWeights(uint8_t* to, const uint8_t* from) {
  asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16;"
               :
               : "r"(static_cast<uint32_t>(__cvta_generic_to_shared(to))), "l"(from));
}
template <int kPending>
__device__ __forceinline__ void WaitWeights() {
  asm volatile("cp.async.wait_group %0;" : : "n"(kPending) : "memory");
  __syncwarp();
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

  __device__ __forceinline__ RowScales(const uint8_t* record, int in_record, int quad) {
    d = *reinterpret_cast<const uint2*>(record + 8 * quad);
    if constexpr (L::kMin) m = *reinterpret_cast<const uint2*>(record + 32 + 8 * quad);
    const auto word = [&](int at) { return *reinterpret_cast<const uint32_t*>(record + at); };
    if constexpr (L::kScales == ScaleKind::kSuper32) fine[0] = word(32 + 16 * in_record + 4 * quad);
    if constexpr (L::kScales == ScaleKind::kSuperMin32) {
      fine[0] = word(64 + 32 * in_record + 4 * quad);
      fine[1] = word(80 + 32 * in_record + 4 * quad);
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

// Eight groups from `first` on in shared memory; fewer at the end of a panel.
template <typename L>
struct Unit {
  const uint8_t* bytes;
  int last;  // group that is there
  int half, t, quad;

  __device__ __forceinline__ Unit(const uint8_t* from, int groups, int first, int lane)
      : bytes(from),
        last(min(kUnitGroups, groups - first) - 1),
        half(lane >> 4),
        t(lane & 3),
        quad(lane >> 2 & 3) {}
  __device__ __forceinline__ const uint8_t* Record(int group) const {
    return bytes + group / L::kGroupsPerRecord * L::kRecordBytes;
  }
  __device__ __forceinline__ uint4 CodesOf(int pair) const {
    const int group = min(2 * pair + half, last);
    return *reinterpret_cast<const uint4*>(Record(group) + L::kScaleBytes +
                                           group % L::kGroupsPerRecord * L::kGroupBytes + 64 * t +
                                           16 * quad);
  }
  __device__ __forceinline__ RowScales<L> ScalesOf(int group) const {
    const int there = min(group, last);
    return {Record(there), there % L::kGroupsPerRecord, quad};
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
__device__ __forceinline__ void AddUnit(const MatVecParams& p, const Unit<L>& unit, int first,
                                        int lane, float (&acc)[4]) {
  const int t = lane & 3, g = lane >> 2, half = lane >> 4;
  const uint2 x = __ldg(reinterpret_cast<const uint2*>(XRecord(p, first + g)) + t);
  const int own = first + 2 * t + half;
  float2 scale_sum = __ldg(reinterpret_cast<const float2*>(XRecord(p, own) + kTokenScales));
  if (own >= p.groups) scale_sum = {0.0f, 0.0f};
  int upper[4] = {kMagic, kMagic, kMagic, kMagic}, lower[4] = {kMagic, kMagic, kMagic, kMagic};
#pragma unroll
  for (int i = 0; i < kPairs; ++i) {
    const uint32_t b0 = g >> 1 == i ? x.x : 0u, b1 = g >> 1 == i ? x.y : 0u;
    const uint4 codes = unit.CodesOf(i);
    uint32_t low[4], high[4];
    Codes<L>(codes.x, low[0], high[0]);
    Codes<L>(codes.y, low[1], high[1]);
    Codes<L>(codes.z, low[2], high[2]);
    Codes<L>(codes.w, low[3], high[3]);
    Mma32(upper, low[0], low[1], high[0], high[1], b0, b1);
    Mma32(lower, low[2], low[3], high[2], high[3], b0, b1);
  }
  const RowScales<L> scales = unit.ScalesOf(2 * t + half);
  AddRow(scales, 0, half == 0 ? upper[0] : upper[1], scale_sum, acc[0]);
  AddRow(scales, 1, half == 0 ? upper[2] : upper[3], scale_sum, acc[1]);
  AddRow(scales, 2, half == 0 ? lower[0] : lower[1], scale_sum, acc[2]);
  AddRow(scales, 3, half == 0 ? lower[2] : lower[3], scale_sum, acc[3]);
}

// Up to 8 tokens. Lane's sums: four rows and tokens 2t, 2t + 1 over the groups of its half.
template <typename L>
__device__ __forceinline__ void AddUnit(const MatVecParams& p, const Unit<L>& unit, int first,
                                        int lane, float (&acc)[8]) {
  const int t = lane & 3, g = lane >> 2, half = lane >> 4;
#pragma unroll
  for (int i = 0; i < kPairs; ++i) {
    // Columns of tokens that are not there come to nothing that anybody reads.
    uint2 b[2];
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      b[h] = __ldg(reinterpret_cast<const uint2*>(XRecord(p, first + 2 * i + h)) + 4 * g + t);
    }
    const int own = first + 2 * i + half;
    float4 x = __ldg(reinterpret_cast<const float4*>(XRecord(p, own) + kTokenScales) + t);
    if (own >= p.groups) x = {0.0f, 0.0f, 0.0f, 0.0f};
    const uint4 codes = unit.CodesOf(i);
    const RowScales<L> scales = unit.ScalesOf(2 * i + half);
#pragma unroll
    for (int rows = 0; rows < 2; ++rows) {  // two of the four at a time
      uint32_t low[2], high[2];
      Codes<L>(rows == 0 ? codes.x : codes.z, low[0], high[0]);
      Codes<L>(rows == 0 ? codes.y : codes.w, low[1], high[1]);
      int c[2][4];
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        c[h][0] = c[h][1] = c[h][2] = c[h][3] = kMagic;
        Mma32(c[h], low[0], low[1], high[0], high[1], b[h].x, b[h].y);
      }
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        AddRow(scales, 2 * rows + j / 2, half == 0 ? c[0][j] : c[1][j],
               j % 2 == 0 ? make_float2(x.x, x.y) : make_float2(x.z, x.w), acc[4 * rows + j]);
      }
    }
  }
}

template <typename L, bool kOne, int kDepth>
__global__ void __launch_bounds__(kMatVecThreads, kOne ? 4 : 3) NibbleMatVec(const MatVecParams p) {
  constexpr int kTokens = kOne ? 1 : kFewTokens, kSums = kOne ? 4 : 8;
  extern __shared__ __align__(16) uint8_t rings[];
  __shared__ float sums[kMatVecWarps * kPanelRows * kTokens];
  const int warp = threadIdx.x / 32, warps = blockDim.x / 32, lane = threadIdx.x % 32;
  const uint8_t* panel = p.panels + blockIdx.x * p.panel_bytes;
  const int64_t bytes = p.groups / L::kGroupsPerRecord * L::kRecordBytes;
  uint8_t* ring = rings + warp * kDepth * kUnitBytes<L>;
  const auto fetch = [&](int unit, int stage) {
    const int64_t begin = int64_t{unit} * kUnitBytes<L>;
#pragma unroll
    for (int at = 16 * lane; at < kUnitBytes<L>; at += 512) {
      if (begin + at < bytes) CopyWeights(ring + stage * kUnitBytes<L> + at, panel + begin + at);
    }
    asm volatile("cp.async.commit_group;");
  };
#pragma unroll
  for (int i = 0; i < kDepth; ++i) fetch(warp + i * warps, i);  // weights never change
  LetNextStart();
  WaitForInputs();
  float acc[kSums] = {};
  int stage = 0;
  for (int unit = warp; unit * kUnitGroups < p.groups; unit += warps) {
    WaitWeights<kDepth - 1>();
    const int first = unit * kUnitGroups;
    AddUnit(p, Unit<L>(ring + stage * kUnitBytes<L>, p.groups, first, lane), first, lane, acc);
    __syncwarp();
    fetch(unit + kDepth * warps, stage);
    stage = (stage + 1) % kDepth;
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
      const auto launch = [&]<int kDepth>() {
        const auto kernel =
            params.tokens == 1 ? NibbleMatVec<L, true, kDepth> : NibbleMatVec<L, false, kDepth>;
        const int bytes = static_cast<int>(threads / 32) * kDepth * kUnitBytes<L>;
        cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
        LaunchChainedWithMemory(kernel, dim3(panels), threads, static_cast<size_t>(bytes), stream,
                                params);
      };
      // No deeper than there is work for: what is left of shared memory is for the next kernel.
      const unsigned per_round = threads / 32 * kUnitGroups;
      static_cast<unsigned>(params.groups) <= 2 * per_round ? launch.template operator()<2>()
                                                            : launch.template operator()<4>();
      launched = true;
    }
  });
  return launched;
}

}  // namespace tq::cuda
