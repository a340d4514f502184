// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "turboquant/base/error.h"
#include "turboquant/ops/packed_panels.h"

namespace tq {
namespace {

uint64_t RowsOf(const GgufTensor& tensor) {
  uint64_t rows = 1;
  for (size_t i = 1; i < tensor.shape.size(); ++i) rows *= tensor.shape[i];
  return rows;
}

// The tensor's bytes must hold whole rows: a row of blocks may not end within a block.
void CheckTensor(const GgufTensor& tensor) {
  const BlockFormatInfo& info = InfoOf(tensor.format);
  const uint64_t cols = tensor.cols(), rows = RowsOf(tensor);
  if (cols == 0 || rows == 0 || cols % info.values_per_block != 0) {
    Throw(ErrorCode::kCorruptFile,
          "tensor {}: rows of {} values cannot hold whole {} blocks of {} values; the file is "
          "damaged",
          tensor.name, cols, info.name, info.values_per_block);
  }
  const uint64_t bytes = cols / info.values_per_block * info.bytes_per_block * rows;
  if (tensor.data.size() < bytes) {
    Throw(ErrorCode::kCorruptFile,
          "tensor {}: {} bytes are there, {} are needed; the file is truncated", tensor.name,
          tensor.data.size(), bytes);
  }
}

}  // namespace

std::unique_ptr<const PackedWeight> PackedWeight::Pack(const GgufTensor& tensor,
                                                       const ThreadPool& pool) {
  const GgufTensor* one = &tensor;
  return PackStacked(std::span(&one, 1), pool);
}

std::unique_ptr<const PackedWeight> PackedWeight::PackStacked(
    std::span<const GgufTensor* const> tensors, const ThreadPool& pool) {
  TQ_CHECK(!tensors.empty());
  const GgufTensor& first = *tensors.front();
  int64_t rows = 0;
  for (const GgufTensor* tensor : tensors) {
    CheckTensor(*tensor);
    if (tensor->format != first.format || tensor->cols() != first.cols()) return nullptr;
    rows += static_cast<int64_t>(RowsOf(*tensor));
  }
  const auto cols = static_cast<int64_t>(first.cols());
  const BlockFormatInfo& info = InfoOf(first.format);
  const int64_t row_bytes = cols / info.values_per_block * info.bytes_per_block;
  auto packed = std::make_unique<PackedPanels>(LayoutIndexOf(first.format), rows, cols);
  pool.ParallelFor(packed->num_panels(), 1, [&](int64_t begin, int64_t end, int) {
    size_t source = 0;       // tensor that row r lies in
    int64_t source_row = 0;  // the tensor's first row in the stack
    for (int64_t p = begin; p < end; ++p) {
      uint8_t* panel = packed->mutable_panel(p);
      for (int64_t r = p * kPanelRows; r < std::min(rows, (p + 1) * kPanelRows); ++r) {
        while (r - source_row >= static_cast<int64_t>(RowsOf(*tensors[source]))) {
          source_row += static_cast<int64_t>(RowsOf(*tensors[source]));
          ++source;
        }
        PackRow(packed->layout(), tensors[source]->data.data() + (r - source_row) * row_bytes, cols,
                static_cast<int>(r % kPanelRows), panel);
      }
    }
  });
  return packed;
}

}  // namespace tq
