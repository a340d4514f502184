// SPDX-License-Identifier: Apache-2.0
// Work on pages that no query of the step under way needs done: it goes on beside the step, on a
// stream of its own, and the next step waits for what is left of it.
#pragma once

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
  // launch(stream), behind what the main stream has by now.
  template <typename Fn>
  void Beside(const Fn& launch) {
    there_.Record(main_);
    there_.MakeWait(side_);
    launch(static_cast<cudaStream_t>(side_));
    done_.Record(side_);
    pending_ = true;
  }
  // The main stream goes on when all of it is done.
  void MakeMainWait();

 private:
  bool ReadInStep(const KvCache& cache, const SealTask& task) const;
  void LaunchSeals(const KvCache& cache, std::span<const SealTask> tasks, cudaStream_t stream);

  cudaStream_t main_;
  OwnedStream side_{OwnedStream::Priority::kLow};
  OwnedEvent there_;  // what the work reads
  OwnedEvent done_;
  bool pending_ = false;
  struct Reader {
    SequenceId sequence;
    int64_t position;  // of its query that sees most pages sealed
  };
  bool fresh_prompts_ = false;
  std::vector<Reader> readers_;
  std::vector<SealTask> now_, later_;
  std::vector<SealJob> jobs_;
};

}  // namespace tq::cuda
