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
        {span.sequence, fresh ? span.first_position : span.first_position + span.tokens - 1,
         span.tokens < kPageTokens ? span.first_position : span.first_position + span.tokens});
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
    if (sealer_.has_value()) LaunchAllPutOff();
    sealer_.emplace(SealerOf(cache, later_));
    if (SearchesFill()) {
      sealer_->PrepareSearch(Side::kValue, first_.stream);
      sealer_->PrepareSearch(Side::kKey, second_.stream);
    }
    return CheckLaunch("sealing pages");
  }
  LaunchAllPutOff();
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
    const auto offset = [&](int of_form, int page) {
      return static_cast<uint64_t>(view.Head(of_form, page, task.head) - view.arena);
    };
    jobs_.push_back({offset(form - 1, task.page), offset(form, task.page), task.side});
    const int behind = task.page + 1;
    const auto reader = std::ranges::find(readers_, task.sequence, &Reader::sequence);
    if (form == kSealedForm && cache.policy().centring && reader != readers_.end() &&
        int64_t{behind} * kPageTokens < reader->opened_below && view.open_pages[behind] != kNoPage)
      jobs_.back().behind_offset = offset(kOpenForm, behind);
  }
  return {kv.arena, kv.Layout(form - 1), kv.Layout(form), jobs_};
}

int PageWork::SearchBlocks() const {
  return sealer_->SearchBlocks(Side::kKey) + sealer_->SearchBlocks(Side::kValue);
}
// Searches that leave multiprocessors idle had better begin as soon as they can.
bool PageWork::SearchesFill() const { return SearchBlocks() > CurrentDeviceLimits().processors; }

void PageWork::EncodeKeys(std::function<void(cudaStream_t)> launch) {
  if (!prompt_) {
    return Beside([&](cudaStream_t stream) {
      launch(stream);
      copies_read_[lane_].Record(stream);
    });
  }
  keys_ = std::move(launch);
}

bool PageWork::RunBesideMemory() {
  if (keys_ == nullptr && !sealer_.has_value()) return false;
  there_.Record(main_);
  second_left_ ? LaunchSecond() : LaunchFirst();
  CheckLaunch("work on pages");
  return true;
}

// The encoding has multiprocessors of its own, if it comes first; blocks of the search begin when
// its blocks have begun.
void PageWork::LaunchFirst() {
  there_.MakeWait(first_.stream);
  const bool keys = keys_ != nullptr;
  if (keys) std::exchange(keys_, nullptr)(first_.stream);
  const bool searches = sealer_.has_value() && SearchesFill();
  if (searches) sealer_->Search(Side::kValue, keys, first_.stream);
  if (keys) copies_read_[lane_].Record(first_.stream);
  first_.done.Record(first_.stream);
  if (!sealer_.has_value()) return;
  second_left_ = searches || SearchBlocks() == 0;
  if (second_left_) return;
  Beside([&](cudaStream_t stream) { sealer_->SealAll(stream); });
  sealer_.reset();
}

void PageWork::LaunchSecond() {
  there_.MakeWait(second_.stream);
  first_.done.event.MakeWait(second_.stream);
  sealer_->SealRest(second_.stream);
  sealer_->Search(Side::kKey, false, second_.stream);
  second_.done.Record(second_.stream);
  sealer_.reset();
  second_left_ = false;
}

void PageWork::LaunchAllPutOff() {
  try {
    while (keys_ != nullptr || sealer_.has_value()) RunBesideMemory();
  } catch (...) {  // its pages may not be there the next time
    keys_ = nullptr;
    sealer_.reset();
    second_left_ = false;
    throw;
  }
}

void PageWork::MakeMainWait() {
  LaunchAllPutOff();
  MainWaits(first_.done);
  MainWaits(second_.done);
  for (WorkStream& lane : lanes_) MainWaits(lane.done);
}

}  // namespace tq::cuda
