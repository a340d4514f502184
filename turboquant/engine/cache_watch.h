// SPDX-License-Identifier: Apache-2.0
// A watchdog over a running session: now and then it compares attention over the compressed pages
// with attention over 8-bit copies of the same pages, so that a model whose keys break the cache is
// reported, not silent.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "turboquant/engine/attention_drift.h"
#include "turboquant/kv/kv_cache.h"
#include "turboquant/model/model_spec.h"
#include "turboquant/model/step_plan.h"

namespace tq {

// One watched KV head.
struct HeadDrift {
  int layer = 0;
  int kv_head = 0;
  AttentionDrift drift;
};

// Plain figures, for whoever shows or exports them.
struct CacheDrift {
  std::vector<HeadDrift> heads;  // what is watched; empty: nothing is compressed
  AttentionDrift all;            // their sum
  int worst = -1;                // index into heads of the largest relative error; -1: none yet
  bool broken = false;           // a head was above the threshold
  uint64_t copy_bytes = 0;       // of 8-bit copies at this moment
};

struct CacheWatchOptions {
  bool on = false;
  int every = 64;                                // decode steps from one sampled head to the next
  uint64_t max_copy_bytes = uint64_t{64} << 20;  // one head per layer if that fits the context
  double threshold = 0.3;                        // relative error of a head's output
  std::function<void(const CacheDrift&)> on_broken;  // once, when a head is first above it
};

class CacheWatch final : public Observer {
 public:
  // context: tokens that the sequence may grow to. key_maps: [L, G] as the decoder has them, or
  // empty; they must outlive the watch.
  CacheWatch(const ModelSpec& spec, const CachePolicy& policy, std::span<const KeyMap> key_maps,
             int64_t context, const CacheWatchOptions& options);

  // Steps of at most so many tokens leave every page's 8-bit form in place long enough to copy it.
  static int MostTokensPerStep(const CachePolicy& policy) {
    return policy.window_pages() * kPageTokens + policy.rollback;
  }

  // Before a step of `tokens` tokens, the last of a prompt or not: the observer to hang into it, or
  // null if it is not sampled. A prompt's last step samples every head, decoding one at a time.
  Observer* BeforeStep(int64_t tokens, bool last);
  // After it: copies pages that became full, then compares.
  void AfterStep(const KvCache& cache, SequenceId sequence);
  void Truncate(int64_t length);  // what lies beyond is computed again

  CacheDrift drift() const;

  void Layer(int layer, SequenceId sequence, int64_t first_position, MatrixView<float> q,
             MatrixView<float> k, MatrixView<float> v) override;

 private:
  struct Head {
    int layer;
    int kv_head;
    PageCopies copies;
    AttentionDrift drift;
    bool due = false;
    int64_t tokens = 0;          // of `queries`
    std::vector<float> queries;  // [tokens][H * D] of the layer, post-RoPE, model's basis
  };
  void CopyPages(const KvLayerView& view, Head& head) const;
  void Compare(const KvLayerView& view, Head& head) const;

  const ModelSpec& spec_;
  std::span<const KeyMap> key_maps_;
  CacheWatchOptions options_;
  std::vector<Head> heads_;
  int64_t pages_ = 0;  // full ones seen so far
  int64_t steps_ = 0;  // of decoding
  size_t next_ = 0;
  bool broken_ = false;  // and reported
};

}  // namespace tq
