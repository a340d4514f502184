// SPDX-License-Identifier: Apache-2.0
#include "turboquant/backend/cuda/page_work.h"

#include <algorithm>

#include "turboquant/backend/cuda/device_step.h"
#include "turboquant/base/cuda/cuda_error.h"

namespace tq::cuda {
namespace {

// fn(tasks) for each run of tasks of one layer: these share its layouts.
template <typename Fn>
void ForLayers(std::span<const SealTask> tasks, const Fn& fn) {
  for (size_t begin = 0, end; begin < tasks.size(); begin = end) {
    for (end = begin; end < tasks.size() && tasks[end].layer == tasks[begin].layer; ++end) {
    }
    fn(tasks.subspan(begin, end - begin));
  }
}

}  // namespace

void PageWork::Begin(const StepInputs& inputs) {
  MakeMainWait();
  readers_.clear();
  for (const AppendPlan::Span& span : inputs.spans) {
    const bool fresh = inputs.fresh_prompts && span.tokens > DeviceStep::kMostShort;
    readers_.push_back(
        {span.sequence, fresh ? span.first_position : span.first_position + span.tokens - 1});
  }
}

// By any sequence of the step that has the page: forks share pages and the work on them.
bool PageWork::ReadInStep(const KvCache& cache, const SealTask& task) const {
  const uint32_t page = cache.View(task.sequence, task.layer).sealed_pages[task.page];
  return std::ranges::any_of(readers_, [&](const Reader& reader) {
    const KvLayerView view = cache.View(reader.sequence, task.layer);
    return task.page < view.num_pages && view.sealed_pages[task.page] == page &&
           view.visibility.Sealed(task.page, reader.position);
  });
}

// Tasks of a step are pages and sides of their own: the streams need no order between them.
void PageWork::Seal(const KvCache& cache, std::span<const SealTask> tasks) {
  now_.clear();
  later_.clear();
  for (const SealTask& task : tasks) (ReadInStep(cache, task) ? now_ : later_).push_back(task);
  if (!now_.empty()) MakeMainWait();  // keys of these pages may be this step's
  ForLayers(now_, [&](std::span<const SealTask> of_layer) { LaunchSeals(cache, of_layer, main_); });
  const bool several = !later_.empty() && later_.front().layer != later_.back().layer;
  ForLayers(later_, [&](std::span<const SealTask> of_layer) {
    if (several) NextLane();
    Beside([&](cudaStream_t stream) { LaunchSeals(cache, of_layer, stream); });
  });
  CheckLaunch("sealing pages");
}

void PageWork::LaunchSeals(const KvCache& cache, std::span<const SealTask> tasks,
                           cudaStream_t stream) {
  const KvLayerView kv = cache.View(tasks.front().sequence, tasks.front().layer);
  jobs_.clear();
  for (const SealTask& task : tasks) {
    const KvLayerView view = cache.View(task.sequence, task.layer);
    jobs_.push_back({static_cast<uint64_t>(view.OpenHead(task.page, task.head) - view.arena),
                     static_cast<uint64_t>(view.SealedHead(task.page, task.head) - view.arena),
                     task.side});
  }
  LaunchSeal(kv.arena, kv.open, kv.sealed, jobs_, stream);
}

void PageWork::MakeMainWait() {
  for (Lane& lane : lanes_) {
    if (lane.pending) lane.done.MakeWait(main_);
    lane.pending = false;
  }
}

}  // namespace tq::cuda
