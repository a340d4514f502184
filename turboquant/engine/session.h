// SPDX-License-Identifier: Apache-2.0
// One or more timelines over a loaded model: tokens, their cache and the scratch to go on. Not
// thread-safe.
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "turboquant/engine/cache_watch.h"
#include "turboquant/engine/calibration.h"
#include "turboquant/engine/engine.h"
#include "turboquant/kv/kv_cache.h"
#include "turboquant/model/step_plan.h"

namespace tq {

struct SessionOptions {
  CachePolicy cache;                // k and v sized [L] (MakePolicy)
  int64_t context = 0;              // tokens a sequence may grow to; 0 = the model's
  uint64_t cache_budget_bytes = 0;  // 0 = what `context` needs
  PrefillMode prefill = PrefillMode::kFast;
  Precision precision = Precision::kFast;
  int chunk = 512;                                 // tokens of one prefill step
  std::shared_ptr<const Calibration> calibration;  // of keys; null: plain rotation
  CacheWatchOptions cache_watch;                   // of the main timeline, by Append
};

// A policy for the engine's layers from --cache-type-k / --cache-type-v texts.
CachePolicy MakePolicy(const Engine& engine, std::string_view type_k, std::string_view type_v);

class Session {
 public:
  // Throws kOutOfMemory if the context does not fit the budget or the machine, saying what would;
  // kInvalidArgument for a calibration of another model. A calibration that the policy has no use
  // for is dropped: options().calibration is null then.
  Session(std::shared_ptr<const Engine> engine, const SessionOptions& options);
  ~Session();

  const Engine& engine() const;
  const SessionOptions& options() const;
  KvCache& cache();
  const CacheWatch* cache_watch() const;       // null unless options ask for it
  const std::vector<TokenId>& tokens() const;  // of the main timeline, all of them in the cache
  int64_t length() const;

  // Appends tokens in chunks; returns the logits [V] after the last one (valid until the next
  // call). progress(done, total) after each chunk; it may throw Error(kCancelled): what was
  // appended stays. Throws kInvalidArgument if the context is full.
  std::span<const float> Append(std::span<const TokenId> tokens,
                                const std::function<void(int64_t, int64_t)>& progress = {});

  // The same, but only the likeliest next token of the first `vocabulary`, -1 if no logit is a
  // number: logits stay on the backend's device.
  TokenId AppendGreedy(std::span<const TokenId> tokens, int vocabulary);

  // One forward pass over any spans (batches, ranges of logits, observers): the general entry.
  void Forward(const StepPlan& plan);

  // Shortens the main timeline to `length`, recomputing what is not bit-exact in the cache.
  void Truncate(int64_t length);
  void Clear();
  SequenceId main_sequence() const;

  // The whole state in one file (format: docs/format.md), written beside and renamed over `path`
  // after fsync. `extra` is opaque to the session (sampler and random state). Throws kIo (disk full
  // and the like): the previous file is intact.
  void Save(const std::filesystem::path& path, std::span<const std::byte> extra = {}) const;
  // Replaces the state. Throws kNotFound, kCorruptFile (damaged, truncated, foreign: what and
  // where), kUnsupported (another format version, other codebooks), kInvalidArgument (another
  // model, policy or geometry: which; more tokens than the context), kOutOfMemory (the old state is
  // kept until the new one is whole: Clear() first where both do not fit); the session is unchanged
  // then. Returns `extra`. Logits are not kept: those of the last token come from appending it
  // again after Truncate(length() - 1), which is exact.
  std::vector<std::byte> Restore(const std::filesystem::path& path);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace tq
