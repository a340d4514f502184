// SPDX-License-Identifier: Apache-2.0
#include "turboquant/backend/cuda/page_sealer.h"

#include <algorithm>

#include "turboquant/base/cuda/cuda_error.h"

namespace tq::cuda {

void PageSealer::Seal(const KvCache& cache, std::span<const SealTask> tasks) {
  if (tasks.empty()) return;
  const bool read_now = std::ranges::any_of(tasks, [&](const SealTask& task) {
    const KvLayerView kv = cache.View(task.sequence, task.layer);
    return kv.visibility.Sealed(task.page, kv.length - 1);
  });
  cudaStream_t stream = main_;
  if (read_now) {
    MakeMainWait();
  } else {
    stream = side_;
    encoded_.Record(main_);
    encoded_.MakeWait(side_);
  }
  // Runs of tasks of one layer share its layouts.
  for (size_t begin = 0, end; begin < tasks.size(); begin = end) {
    const int layer = tasks[begin].layer;
    const KvLayerView kv = cache.View(tasks[begin].sequence, layer);
    jobs_.clear();
    for (end = begin; end < tasks.size() && tasks[end].layer == layer; ++end) {
      const SealTask& task = tasks[end];
      const KvLayerView view = cache.View(task.sequence, layer);
      jobs_.push_back({static_cast<uint64_t>(view.OpenHead(task.page, task.head) - view.arena),
                       static_cast<uint64_t>(view.SealedHead(task.page, task.head) - view.arena),
                       task.side});
    }
    LaunchSeal(kv.arena, kv.open, kv.sealed, jobs_, stream);
  }
  CheckLaunch("sealing pages");
  if (!read_now) {
    sealed_.Record(side_);
    pending_ = true;
  }
}

void PageSealer::MakeMainWait() {
  if (!pending_) return;
  sealed_.MakeWait(main_);
  pending_ = false;
}

}  // namespace tq::cuda
