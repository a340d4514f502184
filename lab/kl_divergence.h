// SPDX-License-Identifier: Apache-2.0
// How far the predictions of one run lie from those of a reference run, position by position.
#pragma once

#include <functional>
#include <vector>

#include "lab/kld_base_file.h"
#include "lab/logits_source.h"
#include "lab/statistics.h"

namespace tq::lab {

// Per scored position, in order; all vectors have the same length.
struct DivergenceScores {
  std::vector<float> nll;       // of the run measured
  std::vector<float> nll_base;  // of the reference
  std::vector<float> kld;       // KL(reference || run)
  std::vector<float> p_change;  // p(target) of the run minus that of the reference
  std::vector<uint8_t> same_top;

  size_t size() const { return kld.size(); }
  void Resize(size_t positions);
  void Append(const DivergenceScores& more);

  Estimate perplexity() const { return ExpOfMean(nll); }
  Estimate perplexity_base() const { return ExpOfMean(nll_base); }
  Estimate log_ratio() const { return PairedDifference(nll, nll_base); }  // ln(PPL / PPL(base))
  Estimate ratio() const;
  Estimate difference() const;  // PPL - PPL(base)
  double correlation() const;   // of ln PPL and ln PPL(base)
  Estimate rms_p_change() const;
  Estimate same_top_rate() const;
};

// Scores one position into element `at`. base_logits may be log-probabilities (offset 0). `cutoff`:
// reference log-probabilities at or below it do not count (the file format clips there; -inf
// otherwise).
struct BaseRow {
  const float* logits;  // [V]
  float offset;         // ln p = logits - offset
  int argmax;
  float cutoff;
};
void ScorePosition(const BaseRow& base, const float* logits, int64_t vocabulary, TokenId target,
                   DivergenceScores& scores, size_t at);

struct DivergenceOptions {
  int batch = 512;
  std::function<bool(int windows_done, const DivergenceScores& so_far)>
      on_window;  // false ends early
};

// Against a file. `bos` as the model wants it (TextWindows::bos). Throws kInvalidArgument if the
// vocabularies differ.
DivergenceScores MeasureDivergence(LogitsSource& source, KldBaseReader& base, TokenId bos,
                                   const ThreadPool& pool, const DivergenceOptions& options);

}  // namespace tq::lab
