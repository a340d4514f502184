// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "turboquant/base/error.h"
#include "turboquant/ops/packed_panels.h"

namespace tq {
namespace {

constexpr int64_t kReleasedBytes = 16 << 20;  // of the file, at a time

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

// fn(tensor, begin, end, row) for what rows [begin, end) of the stack have of each tensor: its rows
// [begin, end), of which the first is `row` of the stack.
template <typename Fn>
void ForParts(std::span<const GgufTensor* const> tensors, int64_t begin, int64_t end, Fn&& fn) {
  int64_t before = 0;  // rows of the tensors before
  for (const GgufTensor* tensor : tensors) {
    const auto rows = static_cast<int64_t>(RowsOf(*tensor));
    const int64_t first = std::max(begin - before, int64_t{0}), last = std::min(end - before, rows);
    if (first < last) fn(*tensor, first, last, before + first);
    before += rows;
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
  const auto pack = [&](const GgufTensor& tensor, int64_t begin, int64_t end, int64_t row) {
    for (int64_t r = begin; r < end; ++r, ++row) {
      PackRow(packed->layout(), tensor.data.data() + r * row_bytes, cols,
              static_cast<int>(row % kPanelRows), packed->mutable_panel(row / kPanelRows));
    }
  };
  const auto release = [&](const GgufTensor& tensor, int64_t begin, int64_t end, int64_t) {
    tensor.Release(static_cast<uint64_t>(begin * row_bytes),
                   static_cast<uint64_t>((end - begin) * row_bytes));
  };
  const int64_t at_once = std::max<int64_t>(kReleasedBytes / (row_bytes * kPanelRows), 1);
  for (int64_t panel = 0; panel < packed->num_panels(); panel += at_once) {
    const int64_t count = std::min(at_once, packed->num_panels() - panel);
    pool.ParallelFor(count, 1, [&](int64_t begin, int64_t end, int) {
      ForParts(tensors, (panel + begin) * kPanelRows, (panel + end) * kPanelRows, pack);
    });
    ForParts(tensors, panel * kPanelRows, (panel + count) * kPanelRows, release);
  }
  return packed;
}

}  // namespace tq
