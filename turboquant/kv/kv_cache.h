// SPDX-License-Identifier: Apache-2.0
// The cache of all sequences on one device: bookkeeping only. Pages, tables, what to seal when;
// never a float. Encoding and attending are backend calls on the views it hands out.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "turboquant/codec/transform.h"
#include "turboquant/kv/kv_view.h"
#include "turboquant/kv/page_arena.h"
#include "turboquant/kv/policy.h"

namespace tq {

struct KvGeometry {
  int num_layers = 0;
  int kv_heads = 0;
  int head_dim = 0;
  std::vector<int> sliding_window;  // [L], 0 = full attention
  bool operator==(const KvGeometry&) const = default;
};

using SequenceId = int32_t;

// One unit of sealing work: one side of one head of one layer of one page, from the form before to
// `form`. Independent of all others but the one that makes the form before.
struct SealTask {
  SequenceId sequence;
  int layer;
  int page;
  int head;
  Side side;
  int form = kSealedForm;
};

struct AppendRequest {
  SequenceId sequence;
  int tokens;
};

// What has to happen in one step, besides encoding the new tokens. Made before anything is changed.
struct AppendPlan {
  // Due from earlier steps, if no sequence has a page of tokens or more: any time in this step
  // before the layer in question attends. Sorted by form; any order among tasks of one form.
  std::vector<SealTask> seal_early;
  // Of pages that fill within this step (or have before it, if it is a prompt): what a query of
  // this step already reads sealed, and the step's share of the work on the newest ones. After the
  // layer's EncodeKv, before its Attend. Sorted by layer, then by form.
  std::vector<SealTask> seal_after_encode;
  struct Span {
    SequenceId sequence;
    int64_t first_position;
    int tokens;
  };
  std::vector<Span> spans;
};

struct KvMemory {
  uint64_t committed_bytes = 0;  // memory taken from the system
  uint64_t used_bytes = 0;  // pages in use, open and sealed, reference vectors and scales included
  uint64_t open_bytes = 0;
  uint64_t sealed_bytes = 0;  // aged ones included
  uint64_t aged_bytes = 0;
  double bits_per_value =
      0;  // used_bytes * 8 over all cached values of all layers and sides (shared ones once)
};

class KvCache {
 public:
  // memory: where the arena lives. budget_bytes: hard limit of the arena (0 = only the machine's).
  // Throws kUnsupported for geometry that a codec cannot hold.
  KvCache(const KvGeometry& geometry, const CachePolicy& policy,
          std::unique_ptr<ArenaMemory> memory, uint64_t budget_bytes);
  ~KvCache();

  const KvGeometry& geometry() const;
  const CachePolicy& policy() const;

  SequenceId NewSequence();
  void FreeSequence(SequenceId);
  SequenceId Fork(SequenceId);  // exact at the current length; pages shared until written
  int64_t Length(SequenceId) const;

  // Makes sure that `tokens` more tokens of the sequence fit beside what is in use now, if appended
  // in steps of at most kReserveChunk; throws kOutOfMemory naming need, budget and what would fit.
  // A check before work starts, not a claim.
  void Reserve(SequenceId, int64_t tokens);

  // Plans one step for several sequences (each once). Either succeeds and has changed lengths,
  // tables and pages, or throws and has changed nothing. The caller must carry out the plan, then
  // call Commit. A step that fails in between is undone by Truncate to the length before it, which
  // is then always exact; its sealing is planned again.
  AppendPlan PlanAppend(std::span<const AppendRequest> batch);
  void Commit(const AppendPlan& plan);  // publishes sealed pages, frees 8-bit forms that nobody can
                                        // ask for any more

  // View of one sequence at one layer, valid until the next call that changes the cache.
  KvLayerView View(SequenceId, int layer) const;

  // Shortens to at most `length` tokens; returns the length kept. That is `length` itself where
  // going on is bit-exact: at least within `rollback` tokens of the longest length there was (of a
  // recomputed one: not below it). Else it is the length from which the caller must append the
  // tokens again (DESIGN: whole sealed pages up to n - window; 0 if a sliding-window layer has
  // given up pages that would be needed). Pages never come back to more bits: those that have aged
  // further than their age at the new length stay as they are.
  int64_t Truncate(SequenceId, int64_t length);

  KvMemory Memory() const;
  // [L] What keys are held in at last: 8 bits where a short sliding window leaves them no more
  // time.
  static std::vector<Codec> FinalKeyCodecs(const KvGeometry&, const CachePolicy&);
  // What a token costs on average in a context of that many (0: one more token of a long context),
  // window and sinks left aside: sealed forms, aged ones by their share. Layers with a sliding
  // window have a fixed cost instead.
  static uint64_t BytesPerToken(const KvGeometry&, const CachePolicy&, int64_t context = 0);
  // What a value of those layers takes, scales and reference vectors included; where all layers
  // have a sliding window, as if none had.
  static double BitsPerValue(const KvGeometry&, const CachePolicy&, int64_t context = 0);
  // The most that one sequence commits while it grows to `tokens` in steps of at most `chunk`: open
  // pages, reference vectors, scales and partly used slabs included. A budget of this size is
  // enough.
  static constexpr int kReserveChunk = 512;
  static uint64_t BytesForContext(const KvGeometry&, const CachePolicy&, int64_t tokens,
                                  int chunk = kReserveChunk);

 private:
  struct State;  // kv_state.h
  std::unique_ptr<State> state_;
  friend class AppendPlanner;
  friend class SessionFile;
};

}  // namespace tq
