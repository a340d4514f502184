// SPDX-License-Identifier: Apache-2.0
// A reference run kept in memory, for comparing many runs with it one after another. As many of the
// scored positions are kept as fit the memory given, evenly spread.
#pragma once

#include <functional>
#include <vector>

#include "lab/logits_source.h"
#include "lab/row_math.h"
#include "turboquant/base/aligned_buffer.h"
#include "turboquant/base/thread_pool.h"

namespace tq::lab {

struct ReferenceOptions {
  int batch = 512;                             // tokens of one forward pass
  uint64_t bytes = uint64_t{512} << 20;        // for the logits; 64 positions are kept at least
  std::function<void(int64_t tokens)> on_fed;  // after each pass of any run; may throw kCancelled
};

class ReferenceLogits {
 public:
  ReferenceLogits(LogitsSource& reference, TextWindows windows, const ThreadPool& pool,
                  ReferenceOptions options);

  // KL(reference || run) at the kept positions, in order.
  std::vector<float> Divergence(LogitsSource& run) const;

  int stride() const { return stride_; }  // every stride-th scored position is kept
  int64_t positions() const { return rows_; }
  const TextWindows& windows() const { return windows_; }

 private:
  using OnRow = std::function<void(int64_t kept, const float* logits)>;
  void Feed(LogitsSource& source, const OnRow& on_row) const;

  TextWindows windows_;
  const ThreadPool& pool_;
  ReferenceOptions options_;
  int64_t vocabulary_;
  int stride_ = 1;
  int64_t rows_per_window_ = 0;
  int64_t rows_ = 0;
  AlignedBuffer<float> logits_;  // [rows, V]
  std::vector<SoftmaxStats> stats_;
};

}  // namespace tq::lab
