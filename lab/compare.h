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
      512 << 20;  // memory for the block of reference logits; decides its rows
  std::function<bool(int tokens_done)> on_progress;  // of the window; false ends early
};

// Rows of one block: what fits, 16 at least.
int ReferenceRows(const CompareOptions& options, int vocabulary);

// One window. The scores of each candidate are added to those in scores[candidate]; false if
// on_progress ended it early (all candidates have the same part of the window then).
bool CompareWindow(LogitsSource& reference, std::span<LogitsSource* const> candidates,
                   const TextWindows& windows, int window, const ThreadPool& pool,
                   const CompareOptions& options, std::span<DivergenceScores> scores);

}  // namespace tq::lab
