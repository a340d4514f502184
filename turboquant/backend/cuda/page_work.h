// SPDX-License-Identifier: Apache-2.0
// Work on pages that no query of the step under way needs done: it goes on beside the step, on
// streams of its own, and the next step waits for what is left of it.
//
// A prompt's searches for trellis codes calculate for as long as a tenth of the prompt's products
// take, which leave them no room. Kernels that wait for memory do: of each layer's two searches one
// is put off until activations are normed and weights unpacked for the first products behind
// attention, one until the products after these are activated (docs/measurements-cuda.md).
#pragma once

#include <deque>
#include <memory>
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
  // What comes next in the main stream waits for memory, and then more such kernels: a search that
  // was put off begins with it.
  void RunBesideMemory();
  // The main stream goes on when all of it is done.
  void MakeMainWait();

 private:
  bool ReadInStep(const KvCache& cache, const SealTask& task) const;
  // Of tasks of one layer and form.
  PageSealer SealerOf(const KvCache& cache, std::span<const SealTask> tasks);
  // In this lane, but for searches. False: there are too few of them, or other tasks among these.
  bool PutOffSearches(const KvCache& cache, std::span<const SealTask> tasks);

  cudaStream_t main_;
  struct Lane {
    OwnedStream stream{OwnedStream::Priority::kLow};
    OwnedEvent done;
    bool pending = false;
  };
  Lane lanes_[kLanes];
  int lane_ = 0;
  OwnedEvent there_;  // what the work reads
  struct Search {
    OwnedStream stream{OwnedStream::Priority::kHighest};
    OwnedEvent done;
    bool pending = false;
  };
  Search searches_[2];    // by side
  OwnedEvent rest_done_;  // all of the last pages' sealing but searches
  struct PutOff {
    std::shared_ptr<const PageSealer> sealer;
    Side side;
  };
  std::deque<PutOff> put_off_;
  struct Reader {
    SequenceId sequence;
    int64_t position;  // of its query that sees most pages sealed
  };
  std::vector<Reader> readers_;
  std::vector<SealTask> now_, later_;
  std::vector<SealJob> jobs_;
};

}  // namespace tq::cuda
