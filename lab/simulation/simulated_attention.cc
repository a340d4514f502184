// SPDX-License-Identifier: Apache-2.0
#include "lab/simulation/simulated_attention.h"

#include <algorithm>

#include "lab/simulation/channel_statistics.h"
#include "turboquant/attention/cpu/attention_kernels.h"
#include "turboquant/attention/online_softmax.h"
#include "turboquant/base/error.h"
#include "turboquant/engine/linear_algebra.h"

namespace tq::lab {
namespace {

constexpr float kLog2E = 1.44269504f;
constexpr int kBlockTokens = 64;  // queries of a work item, times the heads that share keys
constexpr int kScoreRows = 48;    // rows whose scores are in flight

void Copy(MatrixView<const float> from, float* to) {
  for (int64_t r = 0; r < from.rows; ++r) std::copy_n(from.row(r), from.cols, to + r * from.cols);
}

}  // namespace

// Memory of one thread.
struct SimulatedAttention::Worker {
  AlignedBuffer<float> q, o;    // [rows][padded_dim]
  AlignedBuffer<float> m, l;    // [rows]
  AlignedBuffer<float> scores;  // [kScoreRows][128]
  float keep[kScoreRows];
};

// The queries of tokens [first, last) of a pass whose heads share a KV head.
struct SimulatedAttention::Block {
  int layer, kv_head;
  int64_t first_position;  // of the pass
  int first, last;
  MatrixView<const float> q;
  MatrixView<float> out;

  int tokens() const { return last - first; }
  // Rows are head by head.
  int TokenOf(int row) const { return first + row % tokens(); }
  int64_t PositionOf(int row) const { return first_position + TokenOf(row); }
};

// A page as far as it is filled, and what its reference may be. Pages are made independently of
// each other: codes take most of the time, and heads are few.
struct SimulatedAttention::PageJob {
  int head;
  Side side;
  int page;
  MatrixView<const float> rows;
  std::vector<float> mean = {}, previous_mean = {};
};

SimulatedAttention::SimulatedAttention(const ModelSpec& spec, SimulatedCache cache, int threads)
    : spec_(spec),
      cache_(std::move(cache)),
      pool_(threads),
      stored_(static_cast<size_t>(spec.num_layers * spec.kv_heads * 2)),
      workers_(static_cast<size_t>(pool_.num_threads())),
      jobs_of_(static_cast<size_t>(spec.kv_heads * 2)) {
  TQ_CHECK(static_cast<int>(cache_.layers.size()) == spec.num_layers);
  const int padded = PaddedDim(spec.head_dim);
  const auto rows = static_cast<size_t>(kBlockTokens * (spec.q_heads / spec.kv_heads));
  for (Worker& worker : workers_) {
    worker.q.EnsureSize(rows * static_cast<size_t>(padded));
    worker.o.EnsureSize(rows * static_cast<size_t>(padded));
    worker.m.EnsureSize(rows);
    worker.l.EnsureSize(rows);
    worker.scores.EnsureSize(kScoreRows * kPageTokens);
  }
}

SimulatedAttention::~SimulatedAttention() = default;

SimulatedAttention::Stored& SimulatedAttention::StoredOf(int layer, int head, Side side) {
  return stored_[static_cast<size_t>((layer * spec_.kv_heads + head) * 2 + static_cast<int>(side))];
}
const SimulatedAttention::Stored& SimulatedAttention::StoredOf(int layer, int head,
                                                               Side side) const {
  return const_cast<SimulatedAttention*>(this)->StoredOf(layer, head, side);
}

SimulatedAttention::Range SimulatedAttention::CodedAt(int layer, int64_t position) const {
  const bool slides = spec_.layers[static_cast<size_t>(layer)].sliding_window > 0;
  const auto pages = [](int64_t tokens) { return (tokens + kPageTokens - 1) / kPageTokens; };
  const int64_t factor = slides ? kSlidingWindowFactor : 1;
  Range range;
  range.begin = slides ? 0 : cache_.sinks;
  range.end = position + 1 - cache_.window * factor;
  if (cache_.whole_pages) {
    range.begin = pages(range.begin) * kPageTokens;
    range.end = (position / kPageTokens - pages(cache_.window) * factor) * kPageTokens;
  }
  return range.begin < range.end ? range : Range{0, 0};
}

int64_t SimulatedAttention::FirstVisible(int layer, int64_t position) const {
  const int window = spec_.layers[static_cast<size_t>(layer)].sliding_window;
  return window == 0 ? 0 : std::max<int64_t>(position - window + 1, 0);
}

bool SimulatedAttention::Attend(int layer, SequenceId, int64_t first_position,
                                MatrixView<const float> q, MatrixView<const float> k,
                                MatrixView<const float> v, MatrixView<float> out) {
  const int64_t dims = spec_.head_dim;
  if (first_position == 0) {
    for (int i = 0; i < 2 * spec_.kv_heads; ++i)
      StoredOf(layer, i / 2, static_cast<Side>(i % 2)) = Stored();
  }
  // A pass may start again at any place of the newest page.
  Forget(layer, first_position - first_position % kPageTokens);
  pool_.ParallelForDynamic(2 * spec_.kv_heads, 1, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) {
      const auto head = static_cast<int>(i / 2);
      const MatrixView<const float> all = i % 2 == 0 ? k : v;
      if (i % 2 == 0) TakeQueries(layer, head, first_position, q);
      Take(layer, head, static_cast<Side>(i % 2), first_position,
           {all.data + head * dims, all.rows, dims, all.stride}, jobs_of_[static_cast<size_t>(i)]);
    }
  });
  std::vector<const PageJob*> jobs;
  for (const std::vector<PageJob>& of : jobs_of_) {
    for (const PageJob& job : of) jobs.push_back(&job);
  }
  const Range coded = CodedAt(layer, first_position + q.rows - 1);
  pool_.ParallelForDynamic(static_cast<int64_t>(jobs.size()), 1,
                           [&](int64_t begin, int64_t end, int) {
                             for (int64_t i = begin; i < end; ++i)
                               MakePage(layer, *jobs[static_cast<size_t>(i)], coded);
                           });
  for (const std::vector<PageJob>& of : jobs_of_) {  // for a pass that goes on in the newest page
    const PageJob& last = of.back();
    float* newest = StoredOf(layer, last.head, last.side).newest.data();
    if (last.rows.data != newest) Copy(last.rows, newest);
  }
  const int64_t blocks = (q.rows + kBlockTokens - 1) / kBlockTokens;
  pool_.ParallelForDynamic(blocks * spec_.kv_heads, 1, [&](int64_t begin, int64_t end, int thread) {
    for (int64_t i = begin; i < end; ++i) {
      Block block = {.layer = layer,
                     .kv_head = static_cast<int>(i % spec_.kv_heads),
                     .first_position = first_position,
                     .first = static_cast<int>(i / spec_.kv_heads) * kBlockTokens,
                     .last = 0,
                     .q = q,
                     .out = out};
      block.last = std::min(block.first + kBlockTokens, static_cast<int>(q.rows));
      AttendBlock(block, workers_[static_cast<size_t>(thread)]);
    }
  });
  return true;
}

// Gives back what no query from `position` on reads.
void SimulatedAttention::Forget(int layer, int64_t position) {
  const Range coded = CodedAt(layer, position);
  const int64_t first_visible = FirstVisible(layer, position);
  for (int i = 0; i < 2 * spec_.kv_heads; ++i) {
    Stored& s = StoredOf(layer, i / 2, static_cast<Side>(i % 2));
    for (size_t page = 0; page < s.recent.size(); ++page) {
      const int64_t begin = static_cast<int64_t>(page) * kPageTokens, end = begin + kPageTokens;
      const bool unseen = end <= first_visible;
      if (unseen || (begin >= coded.begin && end <= coded.end)) s.recent[page] = {};
      if (unseen) s.coded[page] = {};
    }
  }
}

void SimulatedAttention::TakeQueries(int layer, int head, int64_t first_position,
                                     MatrixView<const float> q) {
  const FakeSide& side = cache_.layers[static_cast<size_t>(layer)].k;
  Stored& s = StoredOf(layer, head, Side::kKey);
  if (side.subspace_rank == 0 || s.subspace) return;
  const int64_t dims = spec_.head_dim, group = spec_.q_heads / spec_.kv_heads;
  s.query_moment.resize(static_cast<size_t>(dims * dims));
  const int64_t rows = std::clamp<int64_t>(kPageTokens - first_position, 0, q.rows);
  std::vector<float> turned(static_cast<size_t>(rows * group * dims));
  for (int64_t r = 0; r < rows; ++r)
    std::copy_n(q.row(r) + head * group * dims, group * dims, turned.data() + r * group * dims);
  TurnQueries(side, head, {turned.data(), rows * group, dims});
  AddMoment({turned.data(), rows * group, dims}, nullptr, s.query_moment);
  if (first_position + q.rows > kPageTokens)
    s.subspace.emplace(s.query_moment, spec_.head_dim, side.subspace_rank);
}

void SimulatedAttention::Take(int layer, int head, Side side, int64_t first_position,
                              MatrixView<const float> rows, std::vector<PageJob>& jobs) {
  Stored& s = StoredOf(layer, head, side);
  s.newest.EnsureSize(static_cast<size_t>(kPageTokens * rows.cols));
  const int64_t end = first_position + rows.rows;
  jobs.clear();
  s.coded.resize(static_cast<size_t>((end + kPageTokens - 1) / kPageTokens));
  s.recent.resize(s.coded.size());
  for (int64_t position = first_position; position < end;) {
    const int64_t page = position / kPageTokens, in_page = position % kPageTokens;
    const int64_t count = std::min(kPageTokens - in_page, end - position);
    PageJob job = {.head = head,
                   .side = side,
                   .page = static_cast<int>(page),
                   .rows = {rows.row(position - first_position), count, rows.cols, rows.stride}};
    if (in_page > 0) {  // the page's first rows came before
      Copy(job.rows, s.newest.data() + in_page * rows.cols);
      job.rows = {s.newest.data(), in_page + count, rows.cols};
    }
    TakePage(layer, job);
    jobs.push_back(std::move(job));
    position += count;
  }
}

void SimulatedAttention::TakePage(int layer, PageJob& job) {
  Stored& s = StoredOf(layer, job.head, job.side);
  const FakeSide& keys = cache_.layers[static_cast<size_t>(layer)].k;
  job.mean = ChannelMeans(job.rows);
  job.previous_mean = s.previous_mean;
  if (job.page == 0) {
    const int64_t first = std::min<int64_t>(4, job.rows.rows - 1);
    const MatrixView<const float> typical(job.rows.row(first), job.rows.rows - first, job.rows.cols,
                                          job.rows.stride);
    s.first_mean = ChannelMeans(typical);
    if (job.side == Side::kKey && keys.channel_scale) {
      const bool centred = keys.centring != FakeCentring::kNone;
      s.channel_scales = ChannelScales(typical, centred ? s.first_mean.data() : nullptr);
    }
  }
  if (job.rows.rows == kPageTokens) s.previous_mean = job.mean;
}

void SimulatedAttention::MakePage(int layer, const PageJob& job, Range coded) {
  Stored& s = StoredOf(layer, job.head, job.side);
  const SimulatedLayer& how = cache_.layers[static_cast<size_t>(layer)];
  const bool keys = job.side == Side::kKey;
  const int64_t dims = spec_.head_dim, begin = int64_t{job.page} * kPageTokens;
  const int padded = PaddedDim(spec_.head_dim);
  std::vector<float> copy(static_cast<size_t>(job.rows.rows * dims));
  const auto make = [&](const FakeSide& fake, AlignedBuffer<float>& panel) {
    FakeStatistics known;
    if (fake.centring == FakeCentring::kPage) known.reference = job.mean.data();
    if (fake.centring == FakeCentring::kFirst) known.reference = s.first_mean.data();
    if (fake.centring == FakeCentring::kPrevious && job.page > 0)
      known.reference = job.previous_mean.data();
    std::vector<float> calibrated;
    if (fake.centring == FakeCentring::kPrevious && job.page == 0) {
      calibrated = CalibratedMean(fake, job.head, dims);
      if (!calibrated.empty()) known.reference = calibrated.data();
    }
    if (fake.subspace_rank > 0 && s.subspace && job.page > 0) known.subspace = &*s.subspace;
    if (fake.channel_scale) known.scales = s.channel_scales.data();
    Copy(job.rows, copy.data());
    const MatrixView<float> view(copy.data(), job.rows.rows, dims);
    ApplyFakeSide(fake, job.side, job.head, known, view);
    panel.EnsureSize(static_cast<size_t>(padded * kPageTokens));
    const AttentionKernels& kernels = GetAttentionKernels(ActiveIsa());
    (keys ? kernels.PackKeys : kernels.PackValues)(view, padded, panel.data());
  };
  // Rows of a full page are gone once the next one begins: its coded form is made by then.
  const bool full = job.rows.rows == kPageTokens;
  const bool sink = begin + kPageTokens <= CodedAt(layer, int64_t{1} << 40).begin;
  if (!sink && (full || begin < coded.end))
    make(keys ? how.k : how.v, s.coded[static_cast<size_t>(job.page)]);
  if (cache_.whole_pages || cache_.window > 0 || begin < cache_.sinks)
    make(keys ? how.recent_k : how.recent_v, s.recent[static_cast<size_t>(job.page)]);
}

void SimulatedAttention::AlterWeights(int layer, int64_t position, bool coded, float sum,
                                      float* weights) const {
  if (cache_.sparse_v > 0) {
    const float least = cache_.sparse_v * sum;
    for (int i = 0; i < kPageTokens; ++i) weights[i] = weights[i] < least ? 0.0f : weights[i];
  }
  const auto& alpha = cache_.layers[static_cast<size_t>(layer)].alpha;
  if (coded && alpha) {
    const float factor = alpha(position + 1);
    for (int i = 0; i < kPageTokens; ++i) weights[i] *= factor;
  }
}

void SimulatedAttention::AttendBlock(const Block& block, Worker& w) const {
  const AttentionKernels& kernels = GetAttentionKernels(ActiveIsa());
  const int dims = spec_.head_dim, padded = PaddedDim(dims);
  const int group = spec_.q_heads / spec_.kv_heads;
  const int rows = block.tokens() * group;
  const auto head_offset = [&](int row) {
    return int64_t{block.kv_head * group + row / block.tokens()} * dims;
  };
  const float factor = spec_.attention_scale * kLog2E;
  for (int row = 0; row < rows; ++row) {
    const float* q = block.q.row(block.TokenOf(row)) + head_offset(row);
    float* to = w.q.data() + row * padded;
    std::transform(q, q + dims, to, [&](float x) { return x * factor; });
    std::fill(to + dims, to + padded, 0.0f);
  }
  std::fill_n(w.m.data(), rows, kNoScore);
  std::fill_n(w.l.data(), rows, 0.0f);
  std::fill_n(w.o.data(), static_cast<int64_t>(rows) * padded, 0.0f);

  const Stored& k = StoredOf(block.layer, block.kv_head, Side::kKey);
  const Stored& v = StoredOf(block.layer, block.kv_head, Side::kValue);
  // All rows against one form of one page; wanted(row): the positions that it reads there.
  const auto read = [&](int64_t page, bool coded, const auto& wanted) {
    const auto& k_panel = (coded ? k.coded : k.recent)[static_cast<size_t>(page)];
    const auto& v_panel = (coded ? v.coded : v.recent)[static_cast<size_t>(page)];
    const int64_t begin = page * kPageTokens;
    for (int row = 0; row < rows; row += kScoreRows) {
      const int n = std::min(kScoreRows, rows - row);
      int first[kScoreRows], last[kScoreRows], end = 0;
      for (int i = 0; i < n; ++i) {
        const Range range = wanted(row + i);
        first[i] = static_cast<int>(std::max<int64_t>(range.begin - begin, 0));
        last[i] = static_cast<int>(std::min<int64_t>(range.end - begin, kPageTokens));
        if (first[i] >= last[i]) first[i] = last[i] = 0;
        end = std::max(end, last[i]);
      }
      if (end == 0) continue;
      const int keys = (end + kPanelWidth - 1) / kPanelWidth * kPanelWidth;
      kernels.Multiply({w.q.data() + row * padded, n, padded}, k_panel.data(), padded, nullptr,
                       {w.scores.data(), n, keys, kPageTokens});
      for (int i = 0; i < n; ++i) {
        float* weights = w.scores.data() + i * kPageTokens;
        float& sum = w.l[static_cast<size_t>(row + i)];
        w.keep[i] =
            kernels.WeighRow(weights, first[i], last[i], &w.m[static_cast<size_t>(row + i)], &sum);
        AlterWeights(block.layer, block.PositionOf(row + i), coded, sum, weights);
      }
      kernels.Multiply({w.scores.data(), n, end, kPageTokens}, v_panel.data(), kPageTokens, w.keep,
                       {w.o.data() + row * padded, n, padded});
    }
  };
  const int64_t first_position = block.first_position + block.first;
  const int64_t last_position = block.first_position + block.last - 1;
  const int64_t first_page = FirstVisible(block.layer, first_position) / kPageTokens;
  for (int64_t page = first_page; page <= last_position / kPageTokens; ++page) {
    read(page, false, [&](int row) {  // sinks
      const int64_t at = block.PositionOf(row);
      return Range{FirstVisible(block.layer, at), std::min(CodedAt(block.layer, at).begin, at + 1)};
    });
    read(page, true, [&](int row) {
      const int64_t at = block.PositionOf(row);
      const Range coded = CodedAt(block.layer, at);
      return Range{std::max(coded.begin, FirstVisible(block.layer, at)), coded.end};
    });
    read(page, false, [&](int row) {  // the window
      const int64_t at = block.PositionOf(row);
      return Range{std::max(CodedAt(block.layer, at).end, FirstVisible(block.layer, at)), at + 1};
    });
  }
  for (int row = 0; row < rows; ++row) {
    FinishInto(
        {w.m[static_cast<size_t>(row)], w.l[static_cast<size_t>(row)], w.o.data() + row * padded},
        dims, block.out.row(block.TokenOf(row)) + head_offset(row));
  }
}

}  // namespace tq::lab
