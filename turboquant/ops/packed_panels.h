// SPDX-License-Identifier: Apache-2.0
// The one implementation of PackedWeight: panels of 16 rows in one of kPackedLayouts.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "turboquant/ops/linear.h"
#include "turboquant/ops/packed_layouts.h"

namespace tq {

class PackedPanels final : public PackedWeight {
 public:
  PackedPanels(int layout_index, int64_t rows, int64_t cols);  // all zero

  int64_t rows() const override { return rows_; }
  int64_t cols() const override { return cols_; }
  uint64_t bytes() const override { return static_cast<uint64_t>(num_panels() * panel_bytes_); }
  std::string layout_name() const override { return std::string(layout().name); }
  void DecodeRow(int64_t r, float* out) const override;

  int layout_index() const { return layout_index_; }
  const PackedLayout& layout() const { return kPackedLayouts[static_cast<size_t>(layout_index_)]; }
  int64_t num_panels() const { return (rows_ + kPanelRows - 1) / kPanelRows; }
  int64_t panel_bytes() const { return panel_bytes_; }
  const uint8_t* panel(int64_t p) const { return data_.get() + p * panel_bytes_; }
  uint8_t* mutable_panel(int64_t p) { return data_.get() + p * panel_bytes_; }

 private:
  int layout_index_;
  int64_t rows_, cols_, panel_bytes_;
  std::shared_ptr<uint8_t> data_;
};

// Writes one row of GGUF blocks into row `row` (0..15) of a zeroed panel. blocks: cols /
// values_per_block blocks.
void PackRow(const PackedLayout& layout, const std::byte* blocks, int64_t cols, int row,
             uint8_t* panel);

// The codes of one group of 32 columns of one row, before the level table. group: start of the
// group's planes.
void LoadGroupCodes(const PackedLayout& layout, const uint8_t* group, int row,
                    uint8_t codes[kGroupColumns]);
void StoreGroupCodes(const PackedLayout& layout, const uint8_t codes[kGroupColumns], int row,
                     uint8_t* group);

}  // namespace tq
