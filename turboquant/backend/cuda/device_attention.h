// SPDX-License-Identifier: Apache-2.0
// Keys and values into pages and queries against them, for all sequences of a step at one layer.
#pragma once

#include <span>

#include "turboquant/backend/backend.h"
#include "turboquant/backend/cuda/device_key_maps.h"
#include "turboquant/backend/cuda/page_work.h"
#include "turboquant/backend/cuda/prefill_attention.h"
#include "turboquant/base/cuda/device_memory.h"
#include "turboquant/kv/cuda/device_tables.h"
#include "turboquant/ops/cuda/device_linear.h"

namespace tq::cuda {

// Throws kUnsupported, listing what there is, if a kernel lacks a page's codecs or head dim.
void CheckAttention(const PageLayout& layout, int q_heads);

class DeviceAttention {
 public:
  // Results of a step's only call, if it is a prompt, are handed over to `linear`.
  DeviceAttention(cudaStream_t stream, PageWork& work, DeviceLinear& linear)
      : stream_(stream), work_(work), linear_(linear), prefill_(stream) {}

  void Encode(std::span<const tq::EncodeArgs> calls, const StepTables& tables);
  // short_tables: sequences with more than kMostShort tokens are idle. True if the workspace of the
  // decode kernel has moved.
  bool Attend(std::span<const AttentionArgs> calls, const StepTables& tables,
              const StepTables& short_tables, const KeyMap* key_maps, bool capturing);
  // One sequence by itself, whatever its length: through the prefill kernel.
  void AttendOne(const AttentionArgs& args, const StepTables& tables, int slot,
                 const KeyMap* key_maps) {
    AttendPrompt(args, tables, slot, key_maps, nullptr);
  }
  void ForgetKeyMaps() { key_maps_.Clear(); }

 private:
  const DeviceKeyMaps::Layer& MapsOf(const KeyMap* maps, const PageLayout& layout) {
    return key_maps_.Of(maps, layout.kv_heads, layout.head_dim);
  }
  void EncodeMany(EncodeArgs args, int64_t rows);
  void WaitForKeys();
  void MapQueries(const AttentionArgs& args, const KeyMap* key_maps);
  // bf16: where results may go too. True if they are there.
  bool AttendPrompt(const AttentionArgs& args, const StepTables& tables, int slot,
                    const KeyMap* key_maps, uint16_t* bf16);
  bool AttendShort(std::span<const AttentionArgs> calls, const StepTables& tables, int tokens,
                   const KeyMap* key_maps, bool capturing);
  bool AttendRows(const AttentionArgs& first, const StepTables& tables, int tokens);
  bool Reserve(DeviceBytes& workspace, int64_t bytes);

  cudaStream_t stream_;
  PageWork& work_;
  DeviceLinear& linear_;
  PrefillAttention prefill_;
  // What the chain over the pages of a layer's keys reads while the next layers write others.
  DeviceBytes kept_keys_[PageWork::kLanes];
  bool keys_under_way_ = false;            // the chain of this step and layer may not have ended
  DeviceBytes workspace_, row_workspace_;  // of the decode kernels
  DeviceKeyMaps key_maps_;
};

}  // namespace tq::cuda
