// SPDX-License-Identifier: Apache-2.0
// Tokens (records of linear_kernels.h) in shared memory: a block reads them once, for all its
// panels.
#pragma once

#include "turboquant/ops/cuda/linear_kernels.h"
#include "turboquant/ops/cuda/weight_stream.cuh"

namespace tq::cuda {

// Up to 8 tokens: records of a unit as they are; then, where halves of a group have scales of
// their own, their sums; then a barrier for each unit.
template <bool kHalves>
struct FewTokens {
  static constexpr int kUnit = kStreamGroups * kTokenRecordBytes;
  static constexpr int kSums = kHalves ? kStreamGroups * kHalfSumBytes : 0;
  static constexpr int kBarriers = kHalves ? 2 : 1;

  uint8_t* shared;
  int units;

  static constexpr int Bytes(int units) { return units * (kUnit + kSums + 8 * kBarriers); }

  __device__ __forceinline__ const uint8_t* Records(int unit) const {
    return shared + unit * kUnit;
  }
  __device__ __forceinline__ const uint8_t* Sums(int unit) const {
    return shared + units * kUnit + unit * kSums;
  }
  __device__ __forceinline__ StagedCopy RecordCopy(int unit) const {
    return {SharedAddress(Records(unit)),
            SharedAddress(shared + units * (kUnit + kSums) + unit * 8)};
  }
  __device__ __forceinline__ StagedCopy SumCopy(int unit) const {
    return {SharedAddress(Sums(unit)),
            SharedAddress(shared + units * (kUnit + kSums + 8) + unit * 8)};
  }

  // By all threads of a block.
  __device__ __forceinline__ void Init() const {
    for (int unit = threadIdx.x; unit < units; unit += blockDim.x) {
      RecordCopy(unit).Init();
      if constexpr (kHalves) SumCopy(unit).Init();
    }
    StagedCopy::EndInit();
    __syncthreads();
  }
  __device__ __forceinline__ void Start(const uint8_t* records, int groups) const {
    const int warp = threadIdx.x / 32, warps = blockDim.x / 32, lane = threadIdx.x % 32;
    const uint8_t* sums = records + int64_t{groups} * kTokenRecordBytes;
#pragma unroll 1
    for (int unit = warp; unit < units; unit += warps) {
      const int count = min(kStreamGroups, groups - unit * kStreamGroups);
      RecordCopy(unit).Start(records + int64_t{unit} * kUnit, count * kTokenRecordBytes, lane);
      if constexpr (kHalves)
        SumCopy(unit).Start(sums + int64_t{unit} * kSums, count * kHalfSumBytes, lane);
    }
    if constexpr (!StagedCopy::kForBlock) {
      StagedCopy::CloseGroup();
      WaitForLane(0);
      __syncthreads();
    }
  }
  // Until a unit is here.
  __device__ __forceinline__ void Wait(int unit) const {
    if constexpr (StagedCopy::kForBlock) {
      RecordCopy(unit).Wait(0, 0);
      if constexpr (kHalves) SumCopy(unit).Wait(0, 0);
    }
  }
};

}  // namespace tq::cuda
