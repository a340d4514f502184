// SPDX-License-Identifier: Apache-2.0
// The inputs of a step in device memory: tokens, positions and, per group of layers, page tables
// and lengths. They lie at fixed addresses, so that a captured graph finds each step's values
// there.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "turboquant/backend/backend.h"
#include "turboquant/base/cuda/device_memory.h"
#include "turboquant/kv/cuda/device_tables.h"

namespace tq::cuda {

class DeviceStep {
 public:
  explicit DeviceStep(cudaStream_t stream) : stream_(stream) {}

  // Copies the step's inputs. True if addresses changed since the last call.
  bool Begin(const StepInputs& inputs);
  // Tokens or positions alone: nothing if they are those of the step, else the step is over. True
  // if they were others than before.
  bool SetTokens(std::span<const int32_t> tokens) { return Set(tokens, tokens_, false); }
  bool SetPositions(std::span<const int32_t> positions) { return Set(positions, positions_, true); }

  const int32_t* tokens() const { return device_.as<int32_t>(); }
  const int32_t* positions() const { return tokens() + capacity_.tokens; }

  // Tables of the group of layers that a view of one of the step's sequences belongs to. In the
  // second form sequences with more than kMostShort new tokens are idle: the decode kernel serves
  // the others, the prefill kernel these.
  StepTables Tables(const KvLayerView& view) const { return TablesOf(view, false); }
  StepTables ShortTables(const KvLayerView& view) const { return TablesOf(view, true); }
  int SlotOf(const KvLayerView& view) const { return PlaceOf(view).slot; }
  int slots() const { return slots_; }
  static constexpr int kMostShort = 16;

 private:
  struct Capacity {  // in words of 4 bytes
    int tokens = 64;
    int slots = 1;
    int pages = 64;
    int groups = 1;
    int forms = 2;  // of pages
    bool operator==(const Capacity&) const = default;
  };
  // Words of one group: page ids by form, then four arrays by slot, then one by form and slot.
  int64_t group_words() const {
    return int64_t{capacity_.slots} * (capacity_.forms * capacity_.pages + 4 + capacity_.forms - 1);
  }
  int64_t words() const { return 2 * int64_t{capacity_.tokens} + capacity_.groups * group_words(); }
  struct Place {
    int group, slot;
  };
  Place PlaceOf(const KvLayerView& view) const;
  StepTables TablesOf(const KvLayerView& view, bool only_short) const;
  void FillGroup(const StepInputs& inputs, int layer, uint32_t* words) const;
  bool Set(std::span<const int32_t> values, std::vector<int32_t>& mirror, bool second);
  void Copy(int64_t first_word, int64_t count);

  cudaStream_t stream_;
  Capacity capacity_;
  DeviceBytes device_;
  PinnedBytes pinned_;
  OwnedEvent copied_;  // the pinned memory may be written again
  std::vector<int32_t> tokens_, positions_;
  std::vector<std::vector<const uint32_t*>> groups_;  // [group][slot] page tables on the host
  int slots_ = 0;
};

}  // namespace tq::cuda
