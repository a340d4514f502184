// SPDX-License-Identifier: Apache-2.0
// Perplexity of a text, by llama-perplexity's method.
#pragma once

#include <functional>
#include <vector>

#include "lab/kld_base_file.h"
#include "lab/logits_source.h"
#include "lab/statistics.h"
#include "turboquant/base/thread_pool.h"

namespace tq::lab {

struct PerplexityOptions {
  int batch = 512;                // tokens of one forward pass
  KldBaseWriter* base = nullptr;  // gets the log-probabilities of every scored position
  // After each window; false ends early with what was scored.
  std::function<bool(int windows_done, double perplexity)> on_window;
};

struct PerplexityResult {
  std::vector<float> nll;  // [windows_done * scored] negative log-likelihoods, in order
  int windows_done = 0;
  Estimate perplexity() const { return ExpOfMean(nll); }
};

PerplexityResult MeasurePerplexity(LogitsSource& source, const TextWindows& windows,
                                   const ThreadPool& pool, const PerplexityOptions& options);

}  // namespace tq::lab
