// SPDX-License-Identifier: Apache-2.0
// Work on pages that no query of the step under way needs done: it goes on beside the step, on
// streams of its own, and the next step waits for what is left of it.
//
// A prompt's searches for trellis codes take the time of a tenth of its products, and products
// leave them no room. Kernels that wait for memory do: a layer's first search is put off until
// activations are normed and weights unpacked behind attention, its second one until the products
// of these are activated (docs/measurements-cuda.md).
#pragma once

#include <optional>
#include <span>
#include <vector>

#include "turboquant/backend/backend.h"
#include "turboquant/base/cuda/device_memory.h"
#include "turboquant/kv/cuda/page_kernels.h"
#include "turboquant/kv/kv_cache.h"

namespace tq::cuda {

class PageWork {
 public:
  explicit PageWork(cudaStream_t main) : main_(main) {}

  void Begin(const StepInputs& inputs);
  void Seal(const KvCache& cache, std::span<const SealTask> tasks);
  // Work of several layers goes on at a time, each in a lane: the seal of a few pages takes long
  // and leaves most of a GPU idle.
  static constexpr int kLanes = 4;
  // Turns to the next lane, and says which it is.
  int NextLane() { return lane_ = (lane_ + 1) % kLanes; }
  // launch(stream) in this lane, behind what the main stream has by now.
  template <typename Fn>
  void Beside(const Fn& launch) {
    Lane& lane = lanes_[lane_];
    there_.Record(main_);
    there_.MakeWait(lane.stream);
    launch(static_cast<cudaStream_t>(lane.stream));
    lane.done.Record(lane.stream);
    lane.pending = true;
  }
  // To be called before a run of kernels that wait for memory, of a step of many tokens: launches a
  // search that was put off beside them.
  void RunBesideMemory();
  // The main stream goes on when all of it is done.
  void MakeMainWait();

 private:
  bool ReadInStep(const KvCache& cache, const SealTask& task) const;
  // Of tasks of one layer and form.
  PageSealer SealerOf(const KvCache& cache, std::span<const SealTask> tasks);
  // In this lane, but for its searches.
  void PutOffSearches(PageSealer sealer);

  cudaStream_t main_;
  struct Lane {
    OwnedStream stream{OwnedStream::Priority::kLow};
    OwnedEvent done;
    bool pending = false;
  };
  Lane lanes_[kLanes];
  int lane_ = 0;
  OwnedEvent there_;  // what the work reads
  struct SearchStream {
    OwnedStream stream{OwnedStream::Priority::kHighest};
    OwnedEvent done;
    bool pending = false;
  };
  SearchStream search_streams_[2];    // by side
  OwnedEvent rest_done_;              // what searches of keys read is there
  std::optional<PageSealer> sealer_;  // whose searches are put off, of these sides:
  std::vector<Side> put_off_;
  bool prompt_ = false;  // the step has many tokens, and is not captured
  struct Reader {
    SequenceId sequence;
    int64_t position;  // of its query that sees most pages sealed
  };
  std::vector<Reader> readers_;
  std::vector<SealTask> now_, later_;
  std::vector<SealJob> jobs_;
};

}  // namespace tq::cuda
