// SPDX-License-Identifier: Apache-2.0
// Several cache types against one reference run (f16 unless told otherwise), in lockstep: reference
// and candidates read the same text block by block, so that only one block of reference logits
// [rows, V] is ever in memory.
#pragma once

#include <functional>
#include <span>
#include <vector>

#include "lab/kl_divergence.h"

namespace tq::lab {

struct CompareOptions {
  int batch =
      512;  // tokens of one forward pass where nothing is scored, and at most where something is
  uint64_t reference_bytes =
      64 << 20;  // memory for the block of reference logits; decides its rows
  std::function<bool(int64_t tokens_done, int64_t tokens_total)> on_progress;  // false ends early
};

struct CompareResult {
  std::vector<DivergenceScores> scores;  // one per candidate, of equal length
  bool complete = true;
};

// Rows of one block: what fits, 16 at least.
int ReferenceRows(const CompareOptions& options, int vocabulary);

CompareResult Compare(LogitsSource& reference, std::span<LogitsSource* const> candidates,
                      const TextWindows& windows, const ThreadPool& pool,
                      const CompareOptions& options);

}  // namespace tq::lab
