// SPDX-License-Identifier: Apache-2.0
// How panels are shared out: a block for every multiprocessor, each with neighbouring panels, whose
// warps take equal runs of their units. A warp writes the panels that it has all of; of others it
// leaves its sums, which the block adds up in the end, in the order of warps.
#pragma once

#include <bit>

#include "turboquant/base/cuda/chained_launch.cuh"
#include "turboquant/ops/cuda/matvec_block.cuh"
#include "turboquant/ops/cuda/weight_stream.cuh"

namespace tq::cuda {

inline constexpr int kMostShareWarps = 16;
// Shared memory that a block asks for if that gives every warp two stages: more in flight than the
// memory's latency asks for brought nothing (60, 80, 200 KB).
inline constexpr int kShareBytes = 110 << 10;
inline constexpr int kMostStages = 8;

// Shared memory of a block: [warps][stages] units, barriers of the same, tokens.
struct ShareParams {
  MatVecParams matvec;
  int panels;
  int units;  // of a panel
  int stages;
  int warps_log;
  int tokens_at;
};

struct PanelShare {
  const ShareParams& p;
  int first, panels;  // of the block
  int total;          // units of all of them
  int warp;

  __device__ __forceinline__ explicit PanelShare(const ShareParams& params)
      : p(params),
        first(FirstOf(blockIdx.x)),
        panels(FirstOf(blockIdx.x + 1) - first),
        total(panels * params.units),
        warp(static_cast<int>(threadIdx.x / 32)) {}
  __device__ __forceinline__ int FirstOf(unsigned block) const {
    return static_cast<int>(block * static_cast<unsigned>(p.panels) / gridDim.x);
  }
  // Units of the block that warps before w have.
  __device__ __forceinline__ int Begin(int w) const { return (w * total) >> p.warps_log; }
  __device__ __forceinline__ int WarpOf(int unit) const {
    return (((unit + 1) << p.warps_log) - 1) / total;
  }
  __device__ __forceinline__ UnitRun Run() const {
    const int begin = Begin(warp), panel = begin / p.units;
    return {p.matvec.panels + int64_t{first + panel} * p.matvec.panel_bytes,
            p.matvec.panel_bytes,
            p.matvec.groups,
            p.units,
            begin - panel * p.units,
            Begin(warp + 1) - begin};
  }
  template <typename L>
  __device__ __forceinline__ WeightStream<L> Stream(const UnitRun& run, uint8_t* shared,
                                                    int lane) const {
    const int ring = p.stages * kUnitBytes<L>;
    return {run, shared + warp * ring,
            reinterpret_cast<uint64_t*>(shared + (ring << p.warps_log)) + warp * p.stages, p.stages,
            lane};
  }
};

__device__ __forceinline__ void WriteIfThere(const MatVecParams& p, int panel, int row, int token,
                                             float sum) {
  const int64_t n = int64_t{panel} * kPanelRows + row;
  if (n < p.rows && token < p.tokens) WriteSum(p, n, token, sum);
}

// Sums of panels that a warp has a part of: its first one, and the last one.
template <int kTokens>
struct PartSums {
  float of[kMostShareWarps][2][kPanelRows * kTokens];
};

// A warp's run. add(bytes of a unit, its number in the panel); flush(write) calls write(row, token,
// sum) with what was added since the last time.
template <typename L, int kTokens, typename Add, typename Flush>
__device__ __forceinline__ void WorkOnShare(const PanelShare& share, const UnitRun& run,
                                            WeightStream<L>& weights, PartSums<kTokens>& parts,
                                            Add&& add, Flush&& flush) {
  int unit = run.unit, since = 0, slot = 0;
  int panel = share.Begin(share.warp) / share.p.units;
#pragma unroll 1
  for (int i = 0; i < run.count; ++i) {
    add(weights.Wait(), unit);
    weights.Advance();
    ++since;
    if (++unit < share.p.units && i + 1 < run.count) continue;
    const bool whole = since == share.p.units;
    float* part = parts.of[share.warp][slot];
    flush([&](int row, int token, float sum) {
      if (whole) {
        WriteIfThere(share.p.matvec, share.first + panel, row, token, sum);
      } else {
        part[row * kTokens + token] = sum;
      }
    });
    unit = since = 0;
    slot = 1;
    ++panel;
  }
}

// The panels of which several warps have parts, once all have left them.
template <int kTokens>
__device__ __forceinline__ void FinishShare(const PanelShare& share,
                                            const PartSums<kTokens>& parts) {
  __syncthreads();
  constexpr int kItems = kPanelRows * kTokens;
  for (int i = static_cast<int>(threadIdx.x); i < share.panels * kItems;
       i += static_cast<int>(blockDim.x)) {
    const int panel = i / kItems, item = i % kItems, begin = panel * share.p.units;
    const int from = share.WarpOf(begin), to = share.WarpOf(begin + share.p.units - 1);
    if (from == to) continue;
    float sum = 0.0f;
    for (int w = from; w <= to; ++w) {
      if (share.Begin(w) == share.Begin(w + 1)) continue;  // has no units
      sum += parts.of[w][share.Begin(w) >= begin ? 0 : 1][item];
    }
    WriteIfThere(share.p.matvec, share.first + panel, item / kTokens, item % kTokens, sum);
  }
}

// token_bytes: of tokens in shared memory; `unstaged`: the kernel for tokens that have no room
// there.
template <typename L>
void LaunchShare(void (*kernel)(ShareParams), void (*unstaged)(ShareParams),
                 const MatVecParams& params, int token_bytes, cudaStream_t stream) {
  if (params.rows == 0 || params.groups == 0) return;
  const int processors = Multiprocessors();
  int device = 0, shared_memory = 0;
  cudaGetDevice(&device);
  cudaDeviceGetAttribute(&shared_memory, cudaDevAttrMaxSharedMemoryPerBlockOptin, device);
  constexpr int kStage = kUnitBytes<L> + 8;
  const int limit = shared_memory - static_cast<int>(sizeof(PartSums<kFewTokens>)) - 16;
  ShareParams p = {};
  p.matvec = params;
  p.panels = (params.rows + kPanelRows - 1) / kPanelRows;
  p.units = UnitsOf(params.groups);
  const int blocks = p.panels < processors ? p.panels : processors;
  const int most = (p.panels + blocks - 1) / blocks * p.units;  // units of a block
  const auto fit = [&](int warps, int stages) {
    return token_bytes + stages * warps * kStage <= limit;
  };
  constexpr int kFewestWarps = 4;  // with fewer, tokens had better not be staged
  if (!fit(kFewestWarps, 2)) {
    kernel = unstaged;
    token_bytes = 0;
  }
  int warps = kMostShareWarps;
  while (warps > 1 && (warps / 2 >= most || (warps > kFewestWarps && !fit(warps, 2)))) warps /= 2;
  const int each = (most + warps - 1) / warps;
  p.stages = each < kMostStages ? each : kMostStages;
  while (p.stages > 1 && (!fit(warps, p.stages) ||
                          (p.stages > 2 && token_bytes + p.stages * warps * kStage > kShareBytes)))
    --p.stages;
  p.warps_log = std::countr_zero(static_cast<unsigned>(warps));
  p.tokens_at = (warps * p.stages * kStage + 15) / 16 * 16;
  // The same for all shapes: a launch on another thread must not find it lowered.
  cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, limit + 16);
  LaunchChainedAs({dim3(static_cast<unsigned>(blocks)), static_cast<unsigned>(32 * warps),
                   static_cast<size_t>(p.tokens_at + token_bytes)},
                  kernel, stream, p);
}

}  // namespace tq::cuda
