// SPDX-License-Identifier: Apache-2.0
// Work on pages that no query of the step under way needs done: it goes on beside the step, on
// streams of its own, and the next step waits for what is left of it.
//
// A prompt's searches for trellis codes take the time of a tenth of its products, and products
// leave them no room. Kernels that wait for memory do: a layer's keys are encoded and its values
// searched while activations are normed and weights unpacked behind attention, its keys searched,
// or sealed without a search, while the products of these are activated
// (docs/measurements-cuda.md).
#pragma once

#include <functional>
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
  // launch(stream) in this lane, behind what the main stream has by now and keys that were put off.
  template <typename Fn>
  void Beside(const Fn& launch) {
    WorkStream& lane = lanes_[lane_];
    there_.Record(main_);
    there_.MakeWait(lane.stream);
    if (first_.done.pending) first_.done.event.MakeWait(lane.stream);
    launch(static_cast<cudaStream_t>(lane.stream));
    lane.done.Record(lane.stream);
  }
  // launch(stream), which encodes a layer's keys of many tokens page after page, from this lane's
  // copy of them. Of a prompt it is put off.
  void EncodeKeys(std::function<void(cudaStream_t)> launch);
  // The main stream goes on when a lane's copy may be written again.
  void WaitForCopy(int lane) { MainWaits(copies_read_[lane]); }
  // The same of the next lane, ahead of time: while a search is under way a product starts late
  // anyway. Where the copy is written, waiting keeps kernels from starting early.
  void BeforeProduct() {
    if (second_left_) WaitForCopy((lane_ + 1) % kLanes);
  }
  // To be called before a run of kernels that wait for memory, of a step of many tokens: launches
  // what was put off until the next such run. Is there any?
  bool RunBesideMemory();
  // What is left of the layer before.
  void LaunchAllPutOff();
  // The main stream goes on when all of it is done.
  void MakeMainWait();

 private:
  bool ReadInStep(const KvCache& cache, const SealTask& task) const;
  // Of tasks of one layer and form.
  PageSealer SealerOf(const KvCache& cache, std::span<const SealTask> tasks);
  int SearchBlocks() const;
  bool SearchesFill() const;
  void LaunchFirst();
  void LaunchSecond();

  cudaStream_t main_;
  struct Mark {
    void Record(cudaStream_t stream) {
      event.Record(stream);
      pending = true;
    }
    OwnedEvent event;
    bool pending = false;  // the main stream has not waited for it
  };
  struct WorkStream {
    explicit WorkStream(OwnedStream::Priority priority = OwnedStream::Priority::kLow)
        : stream(priority) {}
    OwnedStream stream;
    Mark done;
  };
  void MainWaits(Mark& mark) {
    if (mark.pending) mark.event.MakeWait(main_);
    mark.pending = false;
  }

  WorkStream lanes_[kLanes];
  int lane_ = 0;
  OwnedEvent there_;  // what the work reads
  Mark copies_read_[kLanes];
  // Encoding of keys and the search of values; all the rest, with the search of keys.
  WorkStream first_{OwnedStream::Priority::kHighest}, second_{OwnedStream::Priority::kHighest};
  // Put off: encoding of keys, and the pages of its layer that are to be sealed.
  std::function<void(cudaStream_t)> keys_;
  std::optional<PageSealer> sealer_;
  bool second_left_ = false;  // all else is launched
  bool prompt_ = false;       // the step has many tokens, and is not captured
  struct Reader {
    SequenceId sequence;
    int64_t position;      // of its query that sees most pages sealed
    int64_t opened_below;  // pages that begin below are open before pages are sealed: a short step
                           // seals some before it encodes
  };
  std::vector<Reader> readers_;
  std::vector<SealTask> now_, later_;
  std::vector<SealJob> jobs_;
};

}  // namespace tq::cuda
