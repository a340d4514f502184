// SPDX-License-Identifier: Apache-2.0
// Decode: every piece of the plan walks its pages with all query columns of a KV head at once and
// leaves a softmax state; states of the same columns are merged at the end, in page order.
#include <algorithm>

#include "turboquant/attention/memory_slice.h"
#include "turboquant/attention/online_softmax.h"
#include "turboquant/attention/stages.h"
#include "turboquant/attention/visible_range.h"

namespace tq {
namespace {

constexpr float kLog2E = 1.44269504f;
constexpr uint32_t kMostAhead = 24 << 10;  // bytes of a head's block

int GroupOf(const AttentionArgs& args) { return args.q_heads / args.kv.open.kv_heads; }

// Softmax states of the plan's partial columns.
struct Partials {
  float* m;
  float* l;
  float* o;
  int padded_dim;  // the largest of all calls

  SoftmaxPart At(int64_t column) const { return {m[column], l[column], o + column * padded_dim}; }
};

// A worker's memory for one segment.
struct Worker {
  Columns columns;
  float* value_scales;  // [128]
};

Worker TakeWorker(MemorySlice& slice, const AttentionArgs& args, const AttentionKernels& kernels) {
  Columns c = {};
  c.head_dim = args.kv.open.head_dim;
  c.padded_dim = PaddedDim(c.head_dim);
  c.count = args.tokens * GroupOf(args);
  c.q = slice.Take<float>(c.count * c.padded_dim);
  c.q_codes = slice.Take<std::byte>(c.count * kernels.QueryBytes(c.head_dim));
  c.q_scale = slice.Take<float>(c.count);
  c.q_sum = slice.Take<int32_t>(c.count);
  c.scores = slice.Take<float>(c.count * kPageTokens);
  c.p_codes = slice.Take<std::byte>(c.count * kWeightBytes);
  c.p_scale = slice.Take<float>(c.count);
  c.p_sum = slice.Take<int32_t>(c.count);
  c.keep = slice.Take<float>(c.count);
  c.scratch = slice.Take<std::byte>(kernels.ScratchBytes(c.padded_dim));
  return {c, slice.Take<float>(kPageTokens)};
}

void LoadQueries(const AttentionArgs& args, int kv_head, const Columns& columns) {
  const int group = GroupOf(args);
  const float factor = args.scale * kLog2E;
  for (int c = 0; c < columns.count; ++c) {
    const float* q =
        args.q + c / group * args.q_stride + (kv_head * group + c % group) * columns.head_dim;
    float* out = columns.q + c * columns.padded_dim;
    for (int d = 0; d < columns.head_dim; ++d) out[d] = q[d] * factor;
    std::fill(out + columns.head_dim, out + columns.padded_dim, 0.0f);
  }
}

class SegmentRunner {
 public:
  SegmentRunner(const AttentionArgs& args, int kv_head, const Worker& worker,
                const AttentionKernels& kernels)
      : args_(args), kv_head_(kv_head), group_(GroupOf(args)), worker_(worker), kernels_(kernels) {}

  void Run(int first_page, int last_page) {
    LoadQueries(args_, kv_head_, worker_.columns);
    if (InfoOf(args_.kv.open.k).tiles || InfoOf(args_.kv.sealed.k).tiles) {
      kernels_.PrepareQueries(worker_.columns);
    }
    for (int page = first_page; page < last_page; ++page) {
      SetAhead(page + 1 < last_page ? page + 1 : page);
      if (args_.fresh_k != nullptr && page == PagesOf(args_).last) {
        RunFresh();
      } else {
        RunPage(page);
      }
    }
  }

 private:
  // The page after the one at work, fetched in parts between the stages of its predecessor: small
  // blocks of a head lie too far apart for the hardware to guess. It follows long ones by itself,
  // and fetching those as well costs time.
  void SetAhead(int page) {
    const int form = FormOf(args_, args_.tokens - 1, page);
    ahead_left_ = form == kNoForm ? 0 : args_.kv.Layout(form).head_bytes;
    if (ahead_left_ > kMostAhead) ahead_left_ = 0;
    if (ahead_left_ != 0) ahead_ = args_.kv.Head(form, page, kv_head_);
    ahead_part_ = (ahead_left_ / 4 + 63) / 64 * 64;
  }
  void FetchAhead() {
    const uint32_t n = std::min(ahead_part_, ahead_left_);
    for (uint32_t i = 0; i < n; i += 64) __builtin_prefetch(ahead_ + i, 0, 2);
    ahead_ += n;
    ahead_left_ -= n;
  }

  // Queries that see the page in the same form are neighbours: one run of columns each.
  void RunPage(int page) {
    for (int t = 0; t < args_.tokens;) {
      const int form = FormOf(args_, t, page);
      int end = t + 1;
      while (end < args_.tokens && FormOf(args_, end, page) == form) ++end;
      if (form != kNoForm) {
        const PageLayout& layout = args_.kv.Layout(form);
        const std::byte* head = args_.kv.Head(form, page, kv_head_);
        RunColumns(layout.tile, KeySide(layout, head), ValueSide(layout, head), t, end,
                   static_cast<int64_t>(page) * kPageTokens, EndOfPages(args_));
      }
      t = end;
    }
  }

  // The call's own tokens, given as floats: rows of an f32 page that starts at first_position.
  void RunFresh() {
    const int dims = worker_.columns.head_dim;
    PageSide k;
    k.data = reinterpret_cast<const std::byte*>(args_.fresh_k + kv_head_ * dims);
    k.stride = args_.fresh_stride * static_cast<int64_t>(sizeof(float));
    PageSide v = k;
    v.data = reinterpret_cast<const std::byte*>(args_.fresh_v + kv_head_ * dims);
    RunColumns({}, k, v, 0, args_.tokens, args_.first_position,
               args_.first_position + args_.tokens);
  }

  void RunColumns(const TileLayout& tile, const PageSide& k, const PageSide& v, int first_token,
                  int last_token, int64_t begin, int64_t end) {
    const Columns& columns = worker_.columns;
    const int c0 = first_token * group_;
    const int c1 = last_token * group_;
    // Both ends of what is visible move forward with the query.
    const int first = VisibleTokens(args_, first_token, begin, end).first;
    const int last = VisibleTokens(args_, last_token - 1, begin, end).last;
    FetchAhead();
    if (k.bits != 0) {
      kernels_.ScoreTiles(tile, k, columns, c0, c1, first, last);
    } else {
      kernels_.ScoreRows(k, columns, c0, c1, first, last);
    }
    FetchAhead();
    if (v.bits != 0) kernels_.LoadScales(tile, v, first, last, worker_.value_scales);
    for (int c = c0; c < c1; ++c) {
      const TokenRange range = VisibleTokens(args_, c / group_, begin, end);
      kernels_.Weigh(columns, c, range.first, range.last,
                     v.bits != 0 ? worker_.value_scales : nullptr);
    }
    FetchAhead();
    if (v.bits != 0) {
      kernels_.MixTiles(tile, v, columns, c0, c1, first, last);
    } else {
      kernels_.MixRows(v, columns, c0, c1, first, last);
    }
    FetchAhead();
  }

  const AttentionArgs& args_;
  int kv_head_;
  int group_;
  Worker worker_;
  const AttentionKernels& kernels_;
  const std::byte* ahead_ = nullptr;
  uint32_t ahead_left_ = 0;
  uint32_t ahead_part_ = 0;
};

void RunSegment(const AttentionArgs& args, const DecodeSegment& segment,
                const AttentionKernels& kernels, const Partials& partials, std::byte* memory) {
  MemorySlice slice(memory);
  Worker worker = TakeWorker(slice, args, kernels);
  Columns& c = worker.columns;
  // Kernels keep o rows padded_dim apart; partials of narrower calls just leave room behind.
  c.m = partials.m + segment.partial;
  c.l = partials.l + segment.partial;
  c.o = partials.o + segment.partial * partials.padded_dim;
  std::fill(c.m, c.m + c.count, kNoScore);
  std::fill(c.l, c.l + c.count, 0.0f);
  std::fill(c.o, c.o + c.count * c.padded_dim, 0.0f);
  SegmentRunner(args, segment.kv_head, worker, kernels).Run(segment.first_page, segment.last_page);
}

// Merges the segments [begin, end), all of one call and KV head, and writes the outputs.
void MergeSegments(const AttentionArgs& args, std::span<const DecodeSegment> segments,
                   const Partials& partials) {
  const int dims = args.kv.open.head_dim;
  const int padded = PaddedDim(dims);
  const int group = GroupOf(args);
  for (int c = 0; c < args.tokens * group; ++c) {
    const auto part = [&](const DecodeSegment& s) {
      return SoftmaxPart{partials.m[s.partial + c], partials.l[s.partial + c],
                         partials.o + s.partial * partials.padded_dim + c * padded};
    };
    SoftmaxPart total = part(segments[0]);
    for (const DecodeSegment& segment : segments.subspan(1)) {
      MergeInto(total, part(segment), dims);
    }
    const int head = segments[0].kv_head * group + c % group;
    FinishInto(total, dims, args.out + c / group * args.out_stride + head * dims);
  }
}

}  // namespace

void AttendDecode(std::span<const AttentionArgs> calls, AttentionWorkspace& workspace,
                  const ThreadPool& pool, Isa isa) {
  const AttentionKernels& kernels = GetAttentionKernels(isa);
  DecodePlan& plan = workspace.decode;
  PlanDecode(calls, pool.num_threads(), plan);

  Partials partials = {};
  int64_t slice_bytes = 0;
  for (const AttentionArgs& args : calls) {
    if (!IsDecode(args)) continue;
    MemorySlice counter(nullptr);
    TakeWorker(counter, args, kernels);
    slice_bytes = std::max(slice_bytes, counter.used());
    partials.padded_dim = std::max(partials.padded_dim, PaddedDim(args.kv.open.head_dim));
  }
  const int64_t n = (plan.partial_columns + 15) / 16 * 16;
  workspace.partials.EnsureSize(static_cast<size_t>(n * (2 + partials.padded_dim)));
  workspace.workers.EnsureSize(static_cast<size_t>(slice_bytes * pool.num_threads()));
  partials.o = workspace.partials.data();
  partials.m = partials.o + n * partials.padded_dim;
  partials.l = partials.m + n;

  pool.ParallelForDynamic(plan.pieces(), 1, [&](int64_t begin, int64_t end, int thread) {
    std::byte* memory = workspace.workers.data() + thread * slice_bytes;
    for (int64_t piece = begin; piece < end; ++piece) {
      const auto i = static_cast<size_t>(piece);
      for (int s = plan.piece_begin[i]; s < plan.piece_begin[i + 1]; ++s) {
        const DecodeSegment& segment = plan.segments[static_cast<size_t>(s)];
        RunSegment(calls[static_cast<size_t>(segment.call)], segment, kernels, partials, memory);
      }
    }
  });

  const std::span<const DecodeSegment> segments = plan.segments;
  for (size_t begin = 0; begin < segments.size();) {
    size_t end = begin + 1;
    while (end < segments.size() && segments[end].call == segments[begin].call &&
           segments[end].kv_head == segments[begin].kv_head) {
      ++end;
    }
    MergeSegments(calls[static_cast<size_t>(segments[begin].call)],
                  segments.subspan(begin, end - begin), partials);
    begin = end;
  }
}

}  // namespace tq
