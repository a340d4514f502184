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

// Layers whose pages come and go together: equal sliding window, and pages that change form at the
// same ages. One page block holds a page (128 tokens) of all of them in one form, each layer at a
// fixed offset.
struct KvGroup {
  struct Form {
    uint64_t bytes = 0;    // of one block, rounded up to page id units
    int window_pages = 0;  // queries read a page in this form if more pages than that lie between;
                           // means nothing for the open form
  };
  struct Place {
    PageLayout layout;
    uint64_t offset;  // within the block
  };
  struct Layer {
    int layer;                  // in the model
    std::vector<Place> places;  // [forms]

    const PageLayout& open() const { return places[kOpenForm].layout; }
  };
  std::vector<Layer> layers;
  std::vector<Form> forms;  // open, sealed, aged; the open one alone if the group never seals
  Visibility visibility;
  int tasks = 0;  // seal tasks of one page to one form: layers x heads x 2
  int64_t values_per_token = 0;

  int num_forms() const { return static_cast<int>(forms.size()); }
  const Form& form(int number) const { return forms[static_cast<size_t>(number)]; }

  // Task numbers run over layers, then heads, then sides: of one layer, what to seal.
  int tasks_of_layer() const { return 2 * layers[0].open().kv_heads; }
  SealTask Task(SequenceId sequence, int page, int form, int layer_index, int number) const {
    return {sequence,
            layers[static_cast<size_t>(layer_index)].layer,
            page,
            number / 2,
            static_cast<Side>(number % 2),
            form};
  }

  // First page that a sequence of `length` tokens must still hold: the first that its next query
  // can see, and always the page before the next to open, whose keys give the reference vector.
  int FirstPage(int64_t length) const;
  // First page behind the sinks whose form that sequence must still hold; not for the last form.
  int FirstOfForm(int form, int64_t length) const;
  bool IsSink(int page) const { return page < visibility.sink_pages; }

  // Pages below it are sealed to a form, or begin to be, by the time the sequence has that length.
  int64_t BegunBelow(int form, int64_t length) const;
  // How many of the tasks that seal a page to a form, `done` of which are behind us, the step from
  // `length` to `new_length` tokens must carry out: an even share over the 128 steps before the
  // page is first read so, all when that moment has come.
  int TasksDue(int form, int page, int done, int64_t length, int64_t new_length) const;

 private:
  // Position of the first query that reads the page in that form.
  int64_t ReadFrom(int form, int page) const {
    return (int64_t{page} + 1 + this->form(form).window_pages) * kPageTokens;
  }
  // Steps before that in which sealing goes on.
  int64_t Ahead(int form) const { return this->form(form).window_pages == 0 ? 0 : kPageTokens; }
};

// Of a block in each form.
std::vector<uint64_t> FormBytes(const KvGroup& group);

struct KvLayout {
  KvLayout(const KvGeometry& geometry, const CachePolicy& policy);
  std::vector<KvGroup> groups;
  std::vector<std::pair<int, int>> place_of_layer;  // [L] group, index in its layers
};

inline int PagesFor(int64_t tokens) {
  return static_cast<int>((tokens + kPageTokens - 1) / kPageTokens);
}

// Blocks that one sequence holds, by form.
using BlockCounts = std::vector<int64_t>;

// At the peak of the step from `length` to `new_length` tokens.
BlockCounts PeakBlocks(const KvGroup& group, int rollback, int64_t length, int64_t new_length);
// The most of each form at any time while the sequence grows to `tokens` in steps of at most
// `chunk`.
BlockCounts MostBlocks(const KvGroup& group, int rollback, int64_t tokens, int chunk);

}  // namespace tq
