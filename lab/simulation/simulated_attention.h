// SPDX-License-Identifier: Apache-2.0
// Attention over a simulated cache, in a forward pass's own place (Observer::Attend): keys and
// values are kept in float32 in both forms, and every query reads each token in the form that the
// cache prescribes. One sequence; a pass that starts at position 0 starts anew, and one that starts
// within the newest page, if that is not full, forgets what it held from there on.
#pragma once

#include <optional>
#include <vector>

#include "lab/simulation/query_subspace.h"
#include "lab/simulation/simulated_cache.h"
#include "turboquant/base/aligned_buffer.h"
#include "turboquant/base/thread_pool.h"
#include "turboquant/model/step_plan.h"

namespace tq::lab {

class SimulatedAttention : public Observer {
 public:
  SimulatedAttention(const ModelSpec& spec, SimulatedCache cache, int threads);
  ~SimulatedAttention() override;

  void Layer(int, SequenceId, int64_t, MatrixView<float>, MatrixView<float>,
             MatrixView<float>) override {}
  bool Attend(int layer, SequenceId sequence, int64_t first_position, MatrixView<const float> q,
              MatrixView<const float> k, MatrixView<const float> v, MatrixView<float> out) override;

 private:
  // One side of one KV head of one layer. Pages are panels of attention/cpu/attention_kernels.h;
  // a form that no query reads is empty.
  struct Stored {
    std::vector<AlignedBuffer<float>> coded, recent;
    AlignedBuffer<float> newest;  // [128][D] rows of the newest page as they came
    std::vector<float> previous_mean, first_mean;
    std::vector<float> channel_scales;  // if there are any: of the first page
    // Keys, if the cache asks for it: of the first page's queries, for the pages behind it.
    std::vector<double> query_moment;  // [D][D]
    std::optional<QuerySubspace> subspace;
  };
  struct Worker;
  struct Block;
  struct PageJob;
  // Positions [begin, end).
  struct Range {
    int64_t begin, end;
  };

  Stored& StoredOf(int layer, int head, Side side);
  const Stored& StoredOf(int layer, int head, Side side) const;
  // What the query at `position` reads through the codec.
  Range CodedAt(int layer, int64_t position) const;
  int64_t FirstVisible(int layer, int64_t position) const;
  void Forget(int layer, int64_t position);
  void TakeQueries(int layer, int head, int64_t first_position, MatrixView<const float> q);
  // Takes in the rows of one head's side and says what pages are to be made of them.
  void Take(int layer, int head, Side side, int64_t first_position, MatrixView<const float> rows,
            std::vector<PageJob>& jobs);
  // What the page tells of its channels.
  void TakePage(int layer, PageJob& job);
  // Makes a page's forms. `coded`: what the last query of the pass reads coded.
  void MakePage(int layer, const PageJob& job, Range coded);
  void AttendBlock(const Block& block, Worker& worker) const;
  // The weights of one page [128], in the form that is read, for the query at `position`; sum: of
  // all weights so far.
  void AlterWeights(int layer, int64_t position, bool coded, float sum, float* weights) const;

  const ModelSpec& spec_;
  SimulatedCache cache_;
  ThreadPool pool_;
  std::vector<Stored> stored_;  // [L][G][2]
  std::vector<Worker> workers_;
  std::vector<std::vector<PageJob>> jobs_of_;  // [G][2], of the pass at hand
};

}  // namespace tq::lab
