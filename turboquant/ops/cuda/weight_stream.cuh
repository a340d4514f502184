// SPDX-License-Identifier: Apache-2.0
// A warp's way through the weights: units of 8 groups, one panel after the other, which it has
// copied to shared memory long before it needs them. What is on its way takes no registers.
#pragma once

#include "turboquant/ops/cuda/group_places.h"
#include "turboquant/ops/cuda/staged_copy.cuh"

namespace tq::cuda {

inline constexpr int kStreamGroups = kGroupsPerSuper;  // a record of layouts with super-blocks
template <typename L>
inline constexpr int kUnitBytes = static_cast<int>(kStreamGroups / L::kGroupsPerRecord *
                                                   L::kRecordBytes);

constexpr int UnitsOf(int groups) { return (groups + kStreamGroups - 1) / kStreamGroups; }

// Units of a warp: `count`, of which the first is number `unit` of the panel at `panel`.
struct UnitRun {
  const uint8_t* panel;
  int64_t panel_bytes;
  int groups;  // of a panel
  int units;   // of a panel; the last one may have fewer groups
  int unit;
  int count;
};

template <typename L>
class WeightStream {
 public:
  // ring: shared, [stages] units; barriers: shared, [stages]. Asks for the first units.
  __device__ __forceinline__ WeightStream(const UnitRun& run, uint8_t* ring, uint64_t* barriers,
                                          int stages, int lane)
      : run_(run),
        ring_(ring),
        to_(SharedAddress(ring)),
        barriers_(SharedAddress(barriers)),
        stages_(stages),
        lane_(lane),
        from_(run.panel + int64_t{run.unit} * kUnitBytes<L>),
        left_(run.units - run.unit) {
    if (lane == 0) {
#pragma unroll 1
      for (int stage = 0; stage < stages; ++stage) At(stage).Init();
      StagedCopy::EndInit();
    }
    __syncwarp();
#pragma unroll 1
    for (int stage = 0; stage < stages; ++stage) Ask(stage);
  }
  // The next unit's bytes, once they are here.
  __device__ __forceinline__ const uint8_t* Wait() const {
    At(stage_).Wait(parity_, stages_ - 1);
    return ring_ + stage_ * kUnitBytes<L>;
  }
  __device__ __forceinline__ void Advance() {
    __syncwarp();
    Ask(stage_);
    if (++stage_ == stages_) {
      stage_ = 0;
      parity_ ^= 1;
    }
  }

 private:
  __device__ __forceinline__ StagedCopy At(int stage) const {
    return {to_ + static_cast<uint32_t>(stage * kUnitBytes<L>),
            barriers_ + static_cast<uint32_t>(stage * 8)};
  }
  __device__ __forceinline__ void Ask(int stage) {
    if (asked_ < run_.count) Start(stage);
    StagedCopy::CloseGroup();
  }
  __device__ __forceinline__ void Start(int stage) {
    ++asked_;
    const int last = (run_.groups - (run_.units - 1) * kStreamGroups) / L::kGroupsPerRecord *
                     static_cast<int>(L::kRecordBytes);
    At(stage).Start(from_, left_ == 1 ? last : kUnitBytes<L>, lane_);
    from_ += kUnitBytes<L>;
    if (--left_ == 0) {
      left_ = run_.units;
      run_.panel += run_.panel_bytes;
      from_ = run_.panel;
    }
  }

  UnitRun run_;
  uint8_t* ring_;
  uint32_t to_, barriers_;
  int stages_, lane_;
  const uint8_t* from_;  // of the unit to ask for next
  int left_;             // of its panel, itself included
  int asked_ = 0;
  int stage_ = 0;
  uint32_t parity_ = 0;
};

// Group i of a unit: its record, and its codes.
template <typename L>
__device__ __forceinline__ const uint8_t* RecordInUnit(const uint8_t* unit, int i) {
  return unit + i / L::kGroupsPerRecord * static_cast<int>(L::kRecordBytes);
}
template <typename L>
__device__ __forceinline__ const uint8_t* CodesInUnit(const uint8_t* unit, int i) {
  return RecordInUnit<L>(unit, i) + L::kScaleBytes + i % L::kGroupsPerRecord * L::kGroupBytes;
}
template <typename T>
__device__ __forceinline__ T ReadAs(const uint8_t* p) {
  return *reinterpret_cast<const T*>(p);
}

}  // namespace tq::cuda
