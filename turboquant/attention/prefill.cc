// SPDX-License-Identifier: Apache-2.0
// Prefill: an item is a block of queries that see every page in the same form. Pages become panels
// of floats, one at a time, and serve all rows (query, head) of the item; scores of a few rows at a
// time stay in L1 between the two matrix products.
#include <algorithm>

#include "turboquant/attention/memory_slice.h"
#include "turboquant/attention/online_softmax.h"
#include "turboquant/attention/stages.h"
#include "turboquant/attention/visible_range.h"
#include "turboquant/codec/page_codec.h"

namespace tq {
namespace {

constexpr float kLog2E = 1.44269504f;
constexpr int kScoreRows = 48;  // rows whose scores are in flight: 24 KiB

struct Worker {
  float* decoded;  // [128][D]
  float* k_panel;  // [padded_dim][128]
  float* v_panel;  // [128][padded_dim]
  float* q;        // [rows][padded_dim]
  float* o;        // [rows][padded_dim]
  float* m;        // [rows]
  float* l;
  float* scores;  // [kScoreRows][128]
  float* keep;    // [kScoreRows]
};

Worker TakeWorker(MemorySlice& slice, int padded_dim) {
  const int64_t panel = static_cast<int64_t>(kPageTokens) * padded_dim;
  const int64_t rows = static_cast<int64_t>(kMaxPrefillRows) * padded_dim;
  Worker w = {};
  w.decoded = slice.Take<float>(panel);
  w.k_panel = slice.Take<float>(panel);
  w.v_panel = slice.Take<float>(panel);
  w.q = slice.Take<float>(rows);
  w.o = slice.Take<float>(rows);
  w.m = slice.Take<float>(kMaxPrefillRows);
  w.l = slice.Take<float>(kMaxPrefillRows);
  w.scores = slice.Take<float>(kScoreRows * kPageTokens);
  w.keep = slice.Take<float>(kScoreRows);
  return w;
}

class ItemRunner {
 public:
  ItemRunner(const AttentionArgs& args, const PrefillItem& item, const Worker& worker, Isa isa)
      : args_(args),
        item_(item),
        w_(worker),
        kernels_(GetAttentionKernels(isa)),
        codec_(GetPageCodec(isa)),
        dims_(args.kv.open.head_dim),
        padded_(PaddedDim(dims_)),
        tokens_(item.last_token - item.first_token) {}

  void Run() {
    LoadQueries();
    const PageRange pages = PagesOf(args_);
    for (int page = pages.first; page < pages.last; ++page) RunPage(page);
    if (args_.fresh_k != nullptr) RunFresh();
    StoreOutputs();
  }

 private:
  // Rows are head by head, so that neighbours are neighbours in position.
  int TokenOf(int row) const { return item_.first_token + row % tokens_; }
  int HeadOfRow(int row) const {
    const int group = args_.q_heads / args_.kv.open.kv_heads;
    return item_.kv_head * group + item_.first_head + row / tokens_;
  }

  void LoadQueries() {
    const float factor = args_.scale * kLog2E;
    for (int row = 0; row < item_.rows(); ++row) {
      const float* q = args_.q + TokenOf(row) * args_.q_stride + HeadOfRow(row) * dims_;
      float* out = w_.q + row * padded_;
      for (int d = 0; d < dims_; ++d) out[d] = q[d] * factor;
      std::fill(out + dims_, out + padded_, 0.0f);
    }
    std::fill(w_.m, w_.m + item_.rows(), kNoScore);
    std::fill(w_.l, w_.l + item_.rows(), 0.0f);
    std::fill(w_.o, w_.o + item_.rows() * padded_, 0.0f);
  }

  void StoreOutputs() {
    for (int row = 0; row < item_.rows(); ++row) {
      FinishInto({w_.m[row], w_.l[row], w_.o + row * padded_}, dims_,
                 args_.out + TokenOf(row) * args_.out_stride + HeadOfRow(row) * dims_);
    }
  }

  void RunPage(int page) {
    const int64_t begin = static_cast<int64_t>(page) * kPageTokens;
    // The last query sees furthest, the first one furthest back; one form for all of them.
    const TokenRange last = VisibleInPage(args_, item_.last_token - 1, page);
    const TokenRange first = VisibleInPage(args_, item_.first_token, page);
    if (last.empty() && first.empty()) return;
    const int form = FormOf(args_, first.empty() ? item_.last_token - 1 : item_.first_token, page);
    const PageLayout& layout = args_.kv.Layout(form);
    const std::byte* head = args_.kv.Head(form, page, item_.kv_head);
    const MatrixView<float> rows(w_.decoded, std::max(first.last, last.last), dims_);
    codec_.DecodeKeys(layout, head, 0, rows);
    kernels_.PackKeys(rows, padded_, w_.k_panel);
    codec_.DecodeValues(layout, head, 0, rows);
    kernels_.PackValues(rows, padded_, w_.v_panel);
    RunPanels(begin, EndOfPages(args_));
  }

  void RunFresh() {
    const int64_t end = args_.first_position + item_.last_token;
    for (int64_t begin = args_.first_position; begin < end; begin += kPageTokens) {
      const int64_t i = begin - args_.first_position;
      const int64_t n = std::min<int64_t>(kPageTokens, end - begin);
      const int64_t offset = i * args_.fresh_stride + item_.kv_head * dims_;
      if (args_.kv.visibility.FirstVisible(args_.first_position + item_.first_token) >= begin + n) {
        continue;
      }
      kernels_.PackKeys({args_.fresh_k + offset, n, dims_, args_.fresh_stride}, padded_,
                        w_.k_panel);
      kernels_.PackValues({args_.fresh_v + offset, n, dims_, args_.fresh_stride}, padded_,
                          w_.v_panel);
      RunPanels(begin, end);
    }
  }

  // All rows against the panels, whose tokens stand at positions [begin, begin + 128).
  void RunPanels(int64_t begin, int64_t end) {
    for (int row = 0; row < item_.rows(); row += kScoreRows) {
      const int n = std::min(kScoreRows, item_.rows() - row);
      TokenRange visible[kScoreRows];
      int last = 0;
      for (int i = 0; i < n; ++i) {
        visible[i] = VisibleTokens(args_, TokenOf(row + i), begin, end);
        last = std::max(last, visible[i].last);
      }
      if (last == 0) continue;
      const int keys = (last + kPanelWidth - 1) / kPanelWidth * kPanelWidth;
      const MatrixView<const float> q(w_.q + row * padded_, n, padded_);
      kernels_.Multiply(q, w_.k_panel, padded_, nullptr,
                        MatrixView<float>(w_.scores, n, keys, kPageTokens));
      for (int i = 0; i < n; ++i) {
        w_.keep[i] = kernels_.WeighRow(w_.scores + i * kPageTokens, visible[i].first,
                                       visible[i].last, &w_.m[row + i], &w_.l[row + i]);
      }
      kernels_.Multiply(MatrixView<const float>(w_.scores, n, last, kPageTokens), w_.v_panel,
                        kPageTokens, w_.keep, MatrixView<float>(w_.o + row * padded_, n, padded_));
    }
  }

  const AttentionArgs& args_;
  const PrefillItem& item_;
  Worker w_;
  const AttentionKernels& kernels_;
  const PageCodec& codec_;
  int dims_;
  int padded_;
  int tokens_;
};

}  // namespace

void AttendPrefill(std::span<const AttentionArgs> calls, AttentionWorkspace& workspace,
                   const ThreadPool& pool, Isa isa) {
  PlanPrefill(calls, pool.num_threads(), workspace.prefill);
  int padded_dim = 0;
  for (const AttentionArgs& args : calls) {
    if (!IsDecode(args)) padded_dim = std::max(padded_dim, PaddedDim(args.kv.open.head_dim));
  }
  MemorySlice counter(nullptr);
  TakeWorker(counter, padded_dim);
  const int64_t slice_bytes = counter.used();
  workspace.workers.EnsureSize(static_cast<size_t>(slice_bytes * pool.num_threads()));
  const auto items = static_cast<int64_t>(workspace.prefill.size());
  pool.ParallelForDynamic(items, 1, [&](int64_t begin, int64_t end, int thread) {
    MemorySlice slice(workspace.workers.data() + thread * slice_bytes);
    const Worker worker = TakeWorker(slice, padded_dim);
    for (int64_t i = begin; i < end; ++i) {
      const PrefillItem& item = workspace.prefill[static_cast<size_t>(i)];
      ItemRunner(calls[static_cast<size_t>(item.call)], item, worker, isa).Run();
    }
  });
}

}  // namespace tq
