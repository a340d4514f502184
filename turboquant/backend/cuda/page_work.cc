// SPDX-License-Identifier: Apache-2.0
#include "turboquant/backend/cuda/page_work.h"

#include <algorithm>
#include <utility>

#include "turboquant/backend/cuda/device_step.h"
#include "turboquant/base/cuda/cuda_error.h"
#include "turboquant/codec/cuda/launch.h"

namespace tq::cuda {
namespace {

// fn(tasks) for each run of tasks that have as(task) in common.
template <typename As, typename Fn>
void ForRuns(std::span<const SealTask> tasks, const As& as, const Fn& fn) {
  for (size_t begin = 0, end; begin < tasks.size(); begin = end) {
    for (end = begin; end < tasks.size() && as(tasks[end]) == as(tasks[begin]); ++end) {
    }
    fn(tasks.subspan(begin, end - begin));
  }
}
// Layouts are those of a layer and form. A form is made from the one before.
constexpr auto kLayer = [](const SealTask& task) { return task.layer; };
constexpr auto kLayerForm = [](const SealTask& task) { return std::pair(task.layer, task.form); };

}  // namespace

void PageWork::Begin(const StepInputs& inputs) {
  MakeMainWait();
  readers_.clear();
  prompt_ = false;
  for (const AppendPlan::Span& span : inputs.spans) {
    const bool prompt = span.tokens > DeviceStep::kMostShort;
    prompt_ = prompt_ || prompt;
    const bool fresh = inputs.fresh_prompts && prompt;
    readers_.push_back(
        {span.sequence, fresh ? span.first_position : span.first_position + span.tokens - 1});
  }
}

// By any sequence of the step that has the page: forks share pages and the work on them.
bool PageWork::ReadInStep(const KvCache& cache, const SealTask& task) const {
  const uint32_t page = cache.View(task.sequence, task.layer).PageId(task.form, task.page);
  return std::ranges::any_of(readers_, [&](const Reader& reader) {
    const KvLayerView view = cache.View(reader.sequence, task.layer);
    return task.page < view.num_pages && view.PageId(task.form, task.page) == page &&
           view.FormAt(task.page, reader.position) >= task.form;
  });
}

// Tasks of a step are pages and sides of their own, but for those of one page to one form after the
// other: these are of a layer, whose tasks go one form after the other in one stream, and are not
// put off. A page that is read in some form is wanted now in all forms before.
void PageWork::Seal(const KvCache& cache, std::span<const SealTask> tasks) {
  now_.clear();
  later_.clear();
  for (const SealTask& task : tasks) (ReadInStep(cache, task) ? now_ : later_).push_back(task);
  std::ranges::stable_sort(now_, {}, kLayerForm);
  std::ranges::stable_sort(later_, {}, kLayerForm);
  const auto launch = [&](std::span<const SealTask> of_layer, cudaStream_t stream) {
    ForRuns(of_layer, kLayerForm,
            [&](std::span<const SealTask> of_form) { SealerOf(cache, of_form).SealAll(stream); });
  };
  if (!now_.empty()) MakeMainWait();  // keys of these pages may be this step's
  launch(now_, main_);
  if (prompt_ && !later_.empty() && kLayerForm(later_.front()) == kLayerForm(later_.back())) {
    PageSealer sealer = SealerOf(cache, later_);
    // Searches that leave multiprocessors idle had better begin at once.
    const int blocks = sealer.SearchBlocks(Side::kKey) + sealer.SearchBlocks(Side::kValue);
    if (blocks > CurrentDeviceLimits().processors) {
      PutOffSearches(std::move(sealer));
    } else {
      Beside([&](cudaStream_t stream) { sealer.SealAll(stream); });
    }
    return CheckLaunch("sealing pages");
  }
  const bool several = !later_.empty() && later_.front().layer != later_.back().layer;
  ForRuns(later_, kLayer, [&](std::span<const SealTask> of_layer) {
    if (several) NextLane();
    Beside([&](cudaStream_t stream) { launch(of_layer, stream); });
  });
  CheckLaunch("sealing pages");
}

PageSealer PageWork::SealerOf(const KvCache& cache, std::span<const SealTask> tasks) {
  const KvLayerView kv = cache.View(tasks.front().sequence, tasks.front().layer);
  const int form = tasks.front().form;
  jobs_.clear();
  for (const SealTask& task : tasks) {
    const KvLayerView view = cache.View(task.sequence, task.layer);
    jobs_.push_back({static_cast<uint64_t>(view.Head(form - 1, task.page, task.head) - view.arena),
                     static_cast<uint64_t>(view.Head(form, task.page, task.head) - view.arena),
                     task.side});
  }
  return {kv.arena, kv.Layout(form - 1), kv.Layout(form), jobs_};
}

void PageWork::PutOffSearches(PageSealer sealer) {
  while (!put_off_.empty()) RunBesideMemory();
  sealer_.emplace(std::move(sealer));
  for (const Side side : {Side::kValue, Side::kKey}) {
    if (sealer_->SearchBlocks(side) == 0) continue;
    sealer_->PrepareSearch(side, search_streams_[static_cast<size_t>(side)].stream);
    put_off_.push_back(side);
  }
  Beside([&](cudaStream_t stream) {
    sealer_->SealRest(stream);
    rest_done_.Record(stream);
  });
}

void PageWork::RunBesideMemory() {
  if (put_off_.empty()) return;
  const Side side = put_off_.front();
  put_off_.erase(put_off_.begin());
  SearchStream& search = search_streams_[static_cast<size_t>(side)];
  there_.Record(main_);
  there_.MakeWait(search.stream);
  if (side == Side::kKey) rest_done_.MakeWait(search.stream);
  sealer_->Search(side, false, search.stream);
  search.done.Record(search.stream);
  search.pending = true;
  CheckLaunch("searching for codes");
}

void PageWork::MakeMainWait() {
  try {
    while (!put_off_.empty()) RunBesideMemory();
  } catch (...) {  // their pages may not be there the next time
    put_off_.clear();
    throw;
  }
  for (SearchStream& search : search_streams_) {
    if (search.pending) search.done.MakeWait(main_);
    search.pending = false;
  }
  for (Lane& lane : lanes_) {
    if (lane.pending) lane.done.MakeWait(main_);
    lane.pending = false;
  }
}

}  // namespace tq::cuda
