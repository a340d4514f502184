// SPDX-License-Identifier: Apache-2.0
#include "turboquant/backend/cuda/page_work.h"

#include <algorithm>

#include "turboquant/base/cuda/cuda_error.h"

namespace tq::cuda {

void PageWork::Begin(const StepInputs& inputs) {
  MakeMainWait();
  fresh_prompts_ = inputs.fresh_prompts;
  readers_.clear();
  for (const AppendPlan::Span& span : inputs.spans) {
    const bool fresh = inputs.fresh_prompts && span.tokens > 1;
    readers_.push_back(
        {span.sequence, fresh ? span.first_position : span.first_position + span.tokens - 1});
  }
}

bool PageWork::ReadInStep(const KvCache& cache, const SealTask& task) const {
  const auto reader = std::ranges::find(readers_, task.sequence, &Reader::sequence);
  return reader != readers_.end() &&
         cache.View(task.sequence, task.layer).visibility.Sealed(task.page, reader->position);
}

// Tasks of a step are pages and sides of their own: the two streams need no order between them.
void PageWork::Seal(const KvCache& cache, std::span<const SealTask> tasks) {
  now_.clear();
  later_.clear();
  for (const SealTask& task : tasks) (ReadInStep(cache, task) ? now_ : later_).push_back(task);
  if (!now_.empty() && !fresh_prompts_) MakeMainWait();  // keys of these pages may be new
  LaunchSeals(cache, now_, main_);
  if (!later_.empty()) Beside([&](cudaStream_t stream) { LaunchSeals(cache, later_, stream); });
  CheckLaunch("sealing pages");
}

void PageWork::LaunchSeals(const KvCache& cache, std::span<const SealTask> tasks,
                           cudaStream_t stream) {
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
}

void PageWork::MakeMainWait() {
  if (!pending_) return;
  done_.MakeWait(main_);
  pending_ = false;
}

}  // namespace tq::cuda
