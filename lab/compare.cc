// SPDX-License-Identifier: Apache-2.0
#include "lab/compare.h"

#include <algorithm>
#include <cstring>
#include <limits>

#include "lab/row_math.h"
#include "turboquant/base/aligned_buffer.h"
#include "turboquant/base/error.h"

namespace tq::lab {
namespace {

// Logits of the reference for the positions of one block.
struct ReferenceBlock : PositionSink {
  const ThreadPool& pool;
  AlignedBuffer<float> logits;  // [rows, V]
  std::vector<SoftmaxStats> stats;
  int64_t vocabulary;
  int first = 0;  // position of row 0
  int rows = 0;

  ReferenceBlock(const ThreadPool& pool, int max_rows, int64_t vocabulary)
      : pool(pool),
        logits(static_cast<size_t>(max_rows * vocabulary)),
        stats(static_cast<size_t>(max_rows)),
        vocabulary(vocabulary) {}

  void Rows(int first_position, MatrixView<const float> block) override {
    if (rows == 0) first = first_position;
    const int at = first_position - first;
    TQ_CHECK(at == rows && static_cast<size_t>(at + block.rows) <= stats.size());
    pool.ParallelForDynamic(block.rows, 1, [&](int64_t begin, int64_t end, int) {
      for (int64_t r = begin; r < end; ++r) {
        float* row = logits.data() + (at + r) * vocabulary;
        std::memcpy(row, block.row(r), static_cast<size_t>(vocabulary) * sizeof(float));
        stats[static_cast<size_t>(at + r)] = GetRowMath().softmax(row, vocabulary);
      }
    });
    rows += static_cast<int>(block.rows);
  }
};

struct CandidateSink : PositionSink {
  const ReferenceBlock& reference;
  const TextWindows& windows;
  int window;
  DivergenceScores& scores;

  CandidateSink(const ReferenceBlock& reference, const TextWindows& windows, int window,
                DivergenceScores& scores)
      : reference(reference), windows(windows), window(window), scores(scores) {}

  void Rows(int first_position, MatrixView<const float> block) override {
    const size_t at = scores.size();
    scores.Resize(at + static_cast<size_t>(block.rows));
    reference.pool.ParallelForDynamic(block.rows, 1, [&](int64_t begin, int64_t end, int) {
      for (int64_t r = begin; r < end; ++r) {
        const int position = first_position + static_cast<int>(r);
        const int64_t row = position - reference.first;
        TQ_CHECK(row >= 0 && row < reference.rows);
        const SoftmaxStats& stats = reference.stats[static_cast<size_t>(row)];
        const BaseRow base{reference.logits.data() + row * reference.vocabulary, stats.offset(),
                           stats.argmax, -std::numeric_limits<float>::infinity()};
        ScorePosition(base, block.row(r), reference.vocabulary, windows.Target(window, position),
                      scores, at + static_cast<size_t>(r));
      }
    });
  }
};

}  // namespace

int ReferenceRows(const CompareOptions& options, int vocabulary) {
  const uint64_t fit =
      options.reference_bytes / (static_cast<uint64_t>(vocabulary) * sizeof(float));
  return std::clamp(static_cast<int>(std::min<uint64_t>(fit, 1u << 20)), 16,
                    std::max(options.batch, 16));
}

bool CompareWindow(LogitsSource& reference, std::span<LogitsSource* const> candidates,
                   const TextWindows& windows, int window, const ThreadPool& pool,
                   const CompareOptions& options, std::span<DivergenceScores> scores) {
  TQ_CHECK(scores.size() == candidates.size());
  const int block_rows = ReferenceRows(options, reference.vocabulary());
  ReferenceBlock block(pool, block_rows, reference.vocabulary());
  const std::vector<TokenId> input = windows.Input(window);
  reference.Clear();
  for (LogitsSource* candidate : candidates) candidate->Clear();
  for (int from = 0; from < windows.context;) {
    // Blocks end where scoring begins: before, nothing has to be kept and passes are long.
    const int most = from < windows.first_scored()
                         ? std::min(options.batch, windows.first_scored() - from)
                         : block_rows;
    const int to = std::min(from + most, windows.context);
    block.rows = 0;
    FeedWindow(reference, windows, input, from, to, block);
    for (size_t c = 0; c < candidates.size(); ++c) {
      CandidateSink sink(block, windows, window, scores[c]);
      FeedWindow(*candidates[c], windows, input, from, to, sink);
    }
    from = to;
    if (options.on_progress && !options.on_progress(to)) return false;
  }
  return true;
}

}  // namespace tq::lab
