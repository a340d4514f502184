// SPDX-License-Identifier: Apache-2.0
#include "lab/basis_cost.h"

#include <algorithm>
#include <cmath>
#include <memory>

#include "lab/rate_samples.h"
#include "turboquant/attention/plan.h"
#include "turboquant/base/random.h"
#include "turboquant/codec/page_codec.h"
#include "turboquant/codec/transform.h"
#include "turboquant/kv/kv_cache.h"

namespace tq::lab {
namespace {

constexpr int kHeadDim = 128, kQueryHeads = 4, kTokens = 4096;
constexpr int kRoundsPerSample = 64;
constexpr uint64_t kArenaBytes = uint64_t{16} << 20;

// One layer with one KV head, filled with Gaussian vectors in the rotated basis.
class FilledCache {
 public:
  explicit FilledCache(Codec codec)
      : cache_({1, 1, kHeadDim, {0}}, {.k = {codec}, .v = {codec}},
               MakeHostArenaMemory(kArenaBytes), kArenaBytes),
        sequence_(cache_.NewSequence()) {
    Random random(1);
    for (int page = 0; page < kTokens / kPageTokens; ++page) AppendPage(random);
  }

  KvLayerView View() const { return cache_.View(sequence_, 0); }

 private:
  void AppendPage(Random& random) {
    const AppendRequest request{sequence_, kPageTokens};
    const AppendPlan plan = cache_.PlanAppend({&request, 1});
    std::vector<float> rows(static_cast<size_t>(kPageTokens * kHeadDim));
    const PageCodec& codec = GetPageCodec();
    const KvLayerView view = View();
    std::byte* head =
        view.OpenHead(static_cast<int>(plan.spans[0].first_position / kPageTokens), 0);
    const std::vector<float> zero(kHeadDim);
    codec.SetReference(view.open, head, zero.data());
    for (const auto encode : {codec.EncodeKeys, codec.EncodeValues}) {
      for (float& x : rows) x = static_cast<float>(random.Gaussian());
      encode(view.open, head, 0, {rows.data(), kPageTokens, kHeadDim});
    }
    for (const auto& tasks : {plan.seal_early, plan.seal_after_encode}) {
      for (const SealTask& task : tasks) {
        const auto seal = task.side == Side::kKey ? codec.SealKeys : codec.SealValues;
        seal(view.open, view.OpenHead(task.page, 0), view.sealed, view.SealedHead(task.page, 0),
             {});
      }
    }
    cache_.Commit(plan);
  }

  KvCache cache_;
  SequenceId sequence_;
};

}  // namespace

std::vector<double> BasisCost(Codec codec, ReadBasis basis, int repetitions) {
  const FilledCache cache(codec);
  const ThreadPool pool(1);
  AttentionWorkspace workspace;
  std::vector<float> q(kQueryHeads * kHeadDim), turned(q.size()), out(q.size());
  Random random(2);
  for (float& x : q) x = static_cast<float>(random.Gaussian());
  std::vector<float> rows(static_cast<size_t>(kPageTokens * kHeadDim), 1.0f);  // of one page
  const AttentionArgs args{.kv = cache.View(),
                           .q = turned.data(),
                           .out = out.data(),
                           .q_stride = kQueryHeads * kHeadDim,
                           .out_stride = kQueryHeads * kHeadDim,
                           .tokens = 1,
                           .first_position = kTokens - 1,
                           .q_heads = kQueryHeads,
                           .scale = 1 / std::sqrt(static_cast<float>(kHeadDim))};
  const auto round = [&] {
    turned = q;
    RotateRows(turned.data(), kQueryHeads, kHeadDim, kHeadDim, Side::kKey);
    Attend({&args, 1}, workspace, pool);
    RotateBackRows(out.data(), kQueryHeads, kHeadDim, kHeadDim, Side::kValue);
    if (basis == ReadBasis::kRotated) return;
    for (int page = 0; page < kTokens / kPageTokens; ++page) {
      for (const Side side : {Side::kKey, Side::kValue})
        RotateBackRows(rows.data(), kPageTokens, kHeadDim, kHeadDim, side);
    }
  };
  return SampleRates(repetitions, kRoundsPerSample, kTokens, round);
}

}  // namespace tq::lab
