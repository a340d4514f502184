// SPDX-License-Identifier: Apache-2.0
// How a geometry and a policy become page blocks, and which pages a sequence must hold at which
// length: pure functions of positions, from which the cache's plans, the memory estimates and the
// tests all follow.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "turboquant/kv/kv_cache.h"

namespace tq {

// Layers whose pages come and go together: equal sliding window, and all or none of them sealing.
// One page block holds a page (128 tokens) of all of them, each at a fixed offset.
struct KvGroup {
  struct Layer {
    int layer;  // in the model
    PageLayout open;
    PageLayout sealed;
    uint64_t open_offset;  // within the block
    uint64_t sealed_offset;
  };
  std::vector<Layer> layers;
  Visibility visibility;
  uint64_t open_bytes = 0;    // of one block, rounded up to page id units
  uint64_t sealed_bytes = 0;  // 0 if the group never seals
  int tasks = 0;              // seal tasks of one page: layers x heads x 2
  int64_t values_per_token = 0;

  // Task number -> what to seal. Numbers run over layers, then heads, then sides.
  SealTask Task(SequenceId sequence, int page, int number) const;

  // First page that a sequence of `length` tokens must still hold: the first that its next query
  // can see, and always the page before the next to open, whose keys give the reference vector.
  int FirstPage(int64_t length) const;
  // First page behind the sinks whose open form that sequence must still hold.
  int FirstOpen(int64_t length) const;
  bool IsSink(int page) const { return page < visibility.sink_pages; }

  // Position of the first query that reads the page sealed.
  int64_t SealedFrom(int page) const {
    return (int64_t{page} + 1 + visibility.window_pages) * kPageTokens;
  }
  // How many of a page's tasks, `done` of which are behind us, the step from `length` to
  // `new_length` tokens must carry out: an even share over the 128 steps before the page is first
  // read sealed, all when that moment has come.
  int TasksDue(int page, int done, int64_t length, int64_t new_length) const;
};

struct KvLayout {
  KvLayout(const KvGeometry& geometry, const CachePolicy& policy);
  std::vector<KvGroup> groups;
  std::vector<std::pair<int, int>> place_of_layer;  // [L] group, index in its layers
};

inline int PagesFor(int64_t tokens) {
  return static_cast<int>((tokens + kPageTokens - 1) / kPageTokens);
}

// Blocks that one sequence holds at the peak of the step from `length` to `new_length` tokens.
struct BlockCount {
  int64_t open = 0;
  int64_t sealed = 0;
};
BlockCount PeakBlocks(const KvGroup& group, int rollback, int64_t length, int64_t new_length);
// The most blocks that a sequence holds at any time while it grows to `tokens` in steps of at most
// `chunk`.
BlockCount MostBlocks(const KvGroup& group, int rollback, int64_t tokens, int chunk);

}  // namespace tq
