// SPDX-License-Identifier: Apache-2.0
// PlanAppend and Commit. A plan is made in two passes: the first only looks, and takes every block
// that the second will need; the second changes tables and cannot fail.
#include <algorithm>
#include <limits>
#include <map>
#include <set>

#include "turboquant/base/error.h"
#include "turboquant/kv/kv_state.h"

namespace tq {
namespace {

// Blocks taken from the arena for a plan; what the plan did not use after all goes back.
class BlockStash {
 public:
  explicit BlockStash(PageArena& arena) : arena_(arena) {}
  BlockStash(const BlockStash&) = delete;
  BlockStash& operator=(const BlockStash&) = delete;
  ~BlockStash() {
    for (const auto& [bytes, ids] : blocks_) {
      for (const uint32_t id : ids) arena_.Free(id, bytes);
    }
  }
  void Fill(uint64_t bytes, int64_t count) { arena_.Allocate(bytes, count, blocks_[bytes]); }
  uint32_t Take(uint64_t bytes) {
    std::vector<uint32_t>& ids = blocks_.at(bytes);
    TQ_CHECK(!ids.empty());
    const uint32_t id = ids.back();
    ids.pop_back();
    return id;
  }

 private:
  PageArena& arena_;
  std::map<uint64_t, std::vector<uint32_t>> blocks_;
};

}  // namespace

// One call of PlanAppend.
class AppendPlanner {
  using State = KvCache::State;

 public:
  AppendPlanner(State& state, std::span<const AppendRequest> batch)
      : s_(state), batch_(batch), stash_(state.arena) {
    for (const AppendRequest& request : batch) prompt_ = prompt_ || request.tokens >= kPageTokens;
  }

  AppendPlan Plan() {
    Check();
    Count most;
    for (size_t g = 0; g < s_.layout.groups.size(); ++g) Look(g, most);
    // A prompt's tasks are thousands, all in one of the lists.
    if (!prompt_) plan_.seal_early.reserve(most.tasks);
    plan_.seal_after_encode.reserve(most.tasks);
    early_.reserve(most.runs);
    after_encode_.reserve(most.runs);
    plan_.spans.reserve(batch_.size());
    s_.plan_under_way.reserve(most.runs);

    for (const AppendRequest& request : batch_) {
      KvSequence& sequence = s_.Get(request.sequence);
      plan_.spans.push_back({request.sequence, sequence.length, request.tokens});
      for (size_t g = 0; g < s_.layout.groups.size(); ++g) {
        AddPages(g, sequence, request.tokens);
        PlanSealing(g, request.sequence, sequence, request.tokens);
      }
      sequence.length += request.tokens;
    }
    ListTasks();
    return std::move(plan_);
  }

 private:
  // Numbers [begin, end) of the tasks that seal a page to a form.
  struct TaskRun {
    size_t group;
    SequenceId sequence;
    int page, form, begin, end;
  };
  struct Count {
    size_t runs = 0, tasks = 0;
  };

  // Sorted as they are made: thousands took longer to sort, even by counting, than all else here.
  void ListTasks() {
    std::ranges::stable_sort(early_, {}, &TaskRun::form);
    std::ranges::stable_sort(after_encode_, {}, &TaskRun::form);
    for (const TaskRun& run : early_) {
      const size_t layers = s_.layout.groups[run.group].layers.size();
      for (size_t i = 0; i < layers; ++i) List(run, static_cast<int>(i), plan_.seal_early);
    }
    if (after_encode_.empty()) return;
    for (const auto& [group, index] : s_.layout.place_of_layer) {
      for (const TaskRun& run : after_encode_) {
        if (run.group == static_cast<size_t>(group)) List(run, index, plan_.seal_after_encode);
      }
    }
  }
  // Those of one layer of the group.
  void List(const TaskRun& run, int layer_index, std::vector<SealTask>& tasks) const {
    const KvGroup& group = s_.layout.groups[run.group];
    const int of_layer = group.tasks_of_layer(), first = layer_index * of_layer;
    const int end = std::min(run.end - first, of_layer);
    for (int i = std::max(run.begin - first, 0); i < end; ++i)
      tasks.push_back(group.Task(run.sequence, run.page, run.form, layer_index, i));
  }

  void Check() const {
    std::set<SequenceId> seen;
    for (const AppendRequest& request : batch_) {
      const KvSequence& sequence = s_.Get(request.sequence);
      if (request.tokens <= 0) {
        Throw(ErrorCode::kInvalidArgument, "cannot append {} tokens to sequence {}", request.tokens,
              request.sequence);
      }
      if (!seen.insert(request.sequence).second) {
        Throw(ErrorCode::kInvalidArgument, "sequence {} is named twice in one step",
              request.sequence);
      }
      if (sequence.length + request.tokens > std::numeric_limits<int32_t>::max()) {
        Throw(ErrorCode::kInvalidArgument, "sequence {} would grow beyond {} tokens",
              request.sequence, std::numeric_limits<int32_t>::max());
      }
    }
  }

  // Calls fn(form, page) for the pages that get seal tasks in this step, form by form, newest page
  // first. Pages that have lost the form before are sealed; pages that no query of this step or
  // later sees are left alone.
  template <typename Fn>
  static void ForPagesToSeal(const KvGroup& group, const PageTable& table, int64_t length,
                             int64_t new_length, Fn&& fn) {
    for (int form = kSealedForm; form < group.num_forms(); ++form) {
      const int first = std::max({table.first_page, group.visibility.sink_pages,
                                  group.FirstPage(length), table.FirstOf(form - 1)});
      const int64_t full = new_length / kPageTokens;
      for (int64_t page = std::min(full, group.BegunBelow(form, new_length)) - 1; page >= first;
           --page) {
        fn(form, static_cast<int>(page));
      }
    }
  }

  // First pass over one group: takes all blocks and memory. Adds upper bounds to `most`.
  void Look(size_t g, Count& most) {
    const KvGroup& group = s_.layout.groups[g];
    std::map<RecordId, int>
        leaving;  // how many of the batch's sequences write a copy of a shared record
    std::set<std::pair<int, RecordId>> sealing;  // forms of records that get a block
    BlockCounts blocks(group.forms.size());
    int64_t new_pages = 0;
    for (const AppendRequest& request : batch_) {
      KvSequence& sequence = s_.Get(request.sequence);
      PageTable& table = sequence.tables[g];
      const int64_t new_length = sequence.length + request.tokens;
      const int pages = PagesFor(new_length);
      for (std::vector<uint32_t>& of_form : table.blocks)
        of_form.reserve(static_cast<size_t>(pages));
      table.records.reserve(static_cast<size_t>(pages));
      new_pages += pages - table.pages();
      bool writes_copy = false;
      if (sequence.length % kPageTokens != 0) {
        const RecordId last = table.records.back();
        writes_copy = s_.records[g].Holders(last) - leaving[last] > 1;
        if (writes_copy) ++leaving[last], ++new_pages;
      }
      blocks[kOpenForm] += pages - table.pages() + (writes_copy ? 1 : 0);
      ForPagesToSeal(group, table, sequence.length, new_length, [&](int form, int page) {
        ++most.runs;
        most.tasks += static_cast<size_t>(group.tasks);
        // A page written in this step is the sequence's own, without sealed forms.
        bool takes = page >= sequence.length / kPageTokens;
        if (!takes) {
          const RecordId record = table.Record(page);
          takes = s_.records[g][record][static_cast<size_t>(form)].block == kNoPage &&
                  sealing.insert({form, record}).second;
        }
        blocks[static_cast<size_t>(form)] += takes;
      });
    }
    s_.records[g].Prepare(static_cast<size_t>(new_pages));
    for (size_t form = 0; form < blocks.size(); ++form)
      stash_.Fill(group.forms[form].bytes, blocks[form]);
  }

  // Second pass: makes the last page the sequence's own and adds new ones.
  void AddPages(size_t g, KvSequence& sequence, int tokens) {
    const KvGroup& group = s_.layout.groups[g];
    PageTable& table = sequence.tables[g];
    PageRecords& records = s_.records[g];
    if (sequence.length % kPageTokens != 0) {
      RecordId& last = table.records.back();
      if (records.Holders(last) > 1) {
        const uint64_t bytes = group.form(kOpenForm).bytes;
        const uint32_t copy = stash_.Take(bytes);
        s_.arena.memory().CopyBlock(records[last][kOpenForm].block * kPageIdUnit,
                                    copy * kPageIdUnit, bytes);
        records.Drop(last, kOpenForm);
        last = records.AddOpen(copy);
        table.blocks[kOpenForm].back() = copy;
      } else {
        records.VoidSealing(last);  // left over from a fork that saw the page full
      }
      for (size_t form = kSealedForm; form < table.blocks.size(); ++form)
        table.blocks[form].back() = kNoPage;
    }
    for (int page = table.pages(); page < PagesFor(sequence.length + tokens); ++page) {
      const uint32_t block = stash_.Take(group.form(kOpenForm).bytes);
      table.records.push_back(records.AddOpen(block));
      table.blocks[kOpenForm].push_back(block);
      for (size_t form = kSealedForm; form < table.blocks.size(); ++form)
        table.blocks[form].push_back(kNoPage);
    }
  }

  void PlanSealing(size_t g, SequenceId id, KvSequence& sequence, int tokens) {
    const KvGroup& group = s_.layout.groups[g];
    PageTable& table = sequence.tables[g];
    const int64_t length = sequence.length, new_length = length + tokens;
    ForPagesToSeal(group, table, length, new_length, [&](int form, int page) {
      const State::PlannedSeal seal = {static_cast<int>(g), table.Record(page), form};
      PageFormRecord& record = s_.RecordOf(seal);
      if (record.block == kNoPage) record.block = stash_.Take(group.form(form).bytes);
      table.Block(form, page) = record.block;
      const int due = group.TasksDue(form, page, record.planned_tasks, length, new_length);
      if (due == 0) return;
      const bool full_before = (int64_t{page} + 1) * kPageTokens <= length;
      // A prompt seals many pages of a layer after its encoding: all of them at once, and in one
      // list, for sequences of a batch may share a page.
      const bool early = full_before && !prompt_;
      const int begin = record.planned_tasks;
      (early ? early_ : after_encode_).push_back({g, id, page, form, begin, begin + due});
      s_.plan_under_way.push_back(seal);
      record.planned_tasks += due;
    });
  }

  State& s_;
  std::span<const AppendRequest> batch_;
  BlockStash stash_;
  bool prompt_ = false;  // a page's tokens or more, of any sequence
  AppendPlan plan_;
  std::vector<TaskRun> early_, after_encode_;
};

AppendPlan KvCache::PlanAppend(std::span<const AppendRequest> batch) {
  state_->AbandonPlan();
  return AppendPlanner(*state_, batch).Plan();
}

void KvCache::Commit(const AppendPlan& plan) {
  State& s = *state_;
  for (const State::PlannedSeal& seal : s.plan_under_way)
    s.RecordOf(seal).sealed_tasks = s.RecordOf(seal).planned_tasks;
  s.plan_under_way.clear();
  for (const AppendPlan::Span& span : plan.spans) {
    KvSequence& sequence = s.Get(span.sequence);
    const int64_t kept = std::max<int64_t>(0, sequence.length - s.policy.rollback);
    for (size_t g = 0; g < sequence.tables.size(); ++g)
      s.Trim(static_cast<int>(g), sequence.tables[g], kept);
  }
}

}  // namespace tq
