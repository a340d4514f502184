// SPDX-License-Identifier: Apache-2.0
// Drives a KvCache as the engine does, with keys and values made from token ids, and knows
// independently which bytes every page must have: pages built from scratch, one token list at a
// time.
#pragma once

#include <gtest/gtest.h>

#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <vector>

#include "turboquant/base/hash.h"
#include "turboquant/base/random.h"
#include "turboquant/codec/page_codec.h"
#include "turboquant/kv/kv_cache.h"
#include "turboquant/kv/opening_reference.h"

namespace tq {

using TokenList = std::vector<int32_t>;

// Values [n][D] of tokens, the same for the same (token, layer, head, side).
inline std::vector<float> TestValues(std::span<const int32_t> tokens, int layer, int head,
                                     Side side, int head_dim) {
  std::vector<float> z;
  z.reserve(tokens.size() * static_cast<size_t>(head_dim));
  for (const int32_t token : tokens) {
    Random random((static_cast<uint64_t>(token) << 20) ^
                  static_cast<uint64_t>(layer * 64 + head * 2 + static_cast<int>(side)));
    for (int d = 0; d < head_dim; ++d)
      z.push_back(static_cast<float>(random.Uniform() * 4 - 2 + (d % 7 == 0 ? 1.5 : 0)));
  }
  return z;
}

// The forms of one head of one page, built from scratch.
struct ExpectedPage {
  // [forms], each head_bytes of its layout; the open one alone unless full.
  std::vector<std::vector<std::byte>> forms;
  std::vector<float> mean;  // of the decoded keys, if full
};

class ExpectedPages {
 public:
  // Page `page` of a sequence with these tokens; a partial page holds only the tokens there are.
  const ExpectedPage& Get(const KvLayerView& view, const TokenList& tokens, int layer, int head,
                          int page) {
    const size_t begin = static_cast<size_t>(page) * kPageTokens;
    const size_t end = std::min(tokens.size(), begin + kPageTokens);
    const uint64_t hash = Hash64(std::as_bytes(std::span(tokens).first(end)));
    const auto key = std::make_tuple(hash, layer, head, page);
    if (const auto it = pages_.find(key); it != pages_.end()) return it->second;
    const PageCodec& codec = GetPageCodec();
    ExpectedPage expected;
    expected.forms.emplace_back(view.open.head_bytes);
    std::byte* open = expected.forms[kOpenForm].data();
    expected.mean.resize(static_cast<size_t>(view.open.head_dim));
    const std::vector<float> zero(expected.mean.size());
    const float* r = zero.data();
    if (page > 0)
      r = Get(view, TokenList(tokens.begin(), tokens.begin() + static_cast<int64_t>(begin)), layer,
              head, page - 1)
              .mean.data();
    codec.SetReference(view.open, open, r);
    const auto in_page = std::span(tokens).subspan(begin, end - begin);
    for (const Side side : {Side::kKey, Side::kValue}) {
      const std::vector<float> z = TestValues(in_page, layer, head, side, view.open.head_dim);
      const MatrixView<const float> rows(z.data(), static_cast<int64_t>(in_page.size()),
                                         view.open.head_dim);
      (side == Side::kKey ? codec.EncodeKeys : codec.EncodeValues)(view.open, open, 0, rows);
    }
    if (in_page.size() == kPageTokens) {
      codec.MeanKey(view.open, open, expected.mean.data());
      for (int form = kSealedForm; form <= kSealedForm + view.num_aged; ++form) {
        const PageLayout &from = view.Layout(form - 1), &to = view.Layout(form);
        expected.forms.emplace_back(to.head_bytes);
        const std::byte* before = expected.forms[static_cast<size_t>(form - 1)].data();
        codec.SealKeys(from, before, to, expected.forms.back().data(), {});
        codec.SealValues(from, before, to, expected.forms.back().data(), {});
      }
    }
    return pages_[key] = std::move(expected);
  }

 private:
  std::map<std::tuple<uint64_t, int, int, int>, ExpectedPage> pages_;
};

class KvDriver {
 public:
  struct Part {
    SequenceId sequence;
    TokenList tokens;
  };
  struct StepInfo {
    size_t early = 0;
    size_t after_encode = 0;
  };

  explicit KvDriver(KvCache& cache) : cache_(cache) {}

  // Tokens of each sequence as the driver believes them to be.
  std::map<SequenceId, TokenList>& tokens() { return tokens_; }
  SequenceId New() {
    const SequenceId id = cache_.NewSequence();
    tokens_[id] = {};
    return id;
  }
  SequenceId Fork(SequenceId parent) {
    const SequenceId id = cache_.Fork(parent);
    tokens_[id] = tokens_.at(parent);
    return id;
  }
  void Free(SequenceId id) {
    cache_.FreeSequence(id);
    tokens_.erase(id);
  }

  // One whole step. `check` compares what every query of the step sees, at the moment when it would
  // attend.
  StepInfo Append(const std::vector<Part>& batch, bool check = true) {
    std::vector<AppendRequest> requests;
    for (const Part& part : batch)
      requests.push_back({part.sequence, static_cast<int>(part.tokens.size())});
    const AppendPlan plan = cache_.PlanAppend(requests);
    EXPECT_EQ(plan.spans.size(), batch.size());
    for (const Part& part : batch) {
      TokenList& all = tokens_.at(part.sequence);
      all.insert(all.end(), part.tokens.begin(), part.tokens.end());
    }
    for (const SealTask& task : plan.seal_early) Seal(task);
    size_t next = 0;
    for (int layer = 0; layer < cache_.geometry().num_layers; ++layer) {
      for (const auto& span : plan.spans) Encode(span, layer);
      for (; next < plan.seal_after_encode.size() && plan.seal_after_encode[next].layer == layer;
           ++next) {
        Seal(plan.seal_after_encode[next]);
      }
      if (!check) continue;
      for (const auto& span : plan.spans) {
        CheckQuery(span.sequence, layer, span.first_position);
        CheckQuery(span.sequence, layer, span.first_position + span.tokens - 1);
      }
    }
    EXPECT_EQ(next, plan.seal_after_encode.size());  // else not sorted by layer
    cache_.Commit(plan);
    return {plan.seal_early.size(), plan.seal_after_encode.size()};
  }
  StepInfo Append(SequenceId id, const TokenList& tokens, bool check = true) {
    return Append({{id, tokens}}, check);
  }

  // Everything that the query at `position` of a layer sees has the bytes that it must have.
  void CheckQuery(SequenceId id, int layer, int64_t position) {
    const KvLayerView view = cache_.View(id, layer);
    const TokenList& tokens = tokens_.at(id);
    ASSERT_EQ(view.length, static_cast<int64_t>(tokens.size()));
    const int pages = std::min(view.num_pages, static_cast<int>(position / kPageTokens) + 1);
    for (int page = static_cast<int>(view.visibility.FirstVisible(position) / kPageTokens);
         page < pages; ++page) {
      for (int head = 0; head < view.open.kv_heads; ++head) {
        const ExpectedPage& expected = expected_.Get(view, tokens, layer, head, page);
        SCOPED_TRACE(testing::Message() << "sequence " << id << " layer " << layer << " page "
                                        << page << " query " << position);
        int form = view.FormAt(page, position);
        // Without a window a page is sealed in the very step that reads it so: before that it is
        // only open.
        if (form == kSealedForm && position == view.length && view.visibility.window_pages == 0 &&
            view.sealed_pages[page] == kNoPage) {
          form = kOpenForm;
        }
        if (form != kOpenForm) {
          ASSERT_NE(view.PageId(form, page), kNoPage) << "form " << form;
          const std::vector<std::byte>& bytes = expected.forms[static_cast<size_t>(form)];
          ASSERT_EQ(std::memcmp(view.Head(form, page, head), bytes.data(), bytes.size()), 0)
              << "form " << form;
        } else {
          ASSERT_NE(view.open_pages[page], kNoPage);
          CheckOpen(view, page, head, expected,
                    static_cast<int>(
                        std::min<int64_t>(kPageTokens, view.length - int64_t{page} * kPageTokens)));
        }
      }
    }
  }
  // The same for the token that would come next, as far as it is in the cache.
  void CheckNextQuery(SequenceId id) {
    for (int layer = 0; layer < cache_.geometry().num_layers; ++layer)
      CheckQuery(id, layer, cache_.Length(id));
  }

 private:
  static void CheckOpen(const KvLayerView& view, int page, int head, const ExpectedPage& expected,
                        int tokens) {
    const std::vector<std::byte>& open = expected.forms[kOpenForm];
    if (tokens == kPageTokens) {
      ASSERT_EQ(std::memcmp(view.OpenHead(page, head), open.data(), open.size()), 0);
      return;
    }
    // Behind the last token lie stale codes, which mean nothing.
    const PageCodec& codec = GetPageCodec();
    const int dim = view.open.head_dim;
    std::vector<float> have(static_cast<size_t>(tokens * dim)), want(have.size());
    for (const auto decode : {codec.DecodeKeys, codec.DecodeValues}) {
      decode(view.open, view.OpenHead(page, head), 0, {have.data(), tokens, dim});
      decode(view.open, open.data(), 0, {want.data(), tokens, dim});
      ASSERT_EQ(std::memcmp(have.data(), want.data(), have.size() * sizeof(float)), 0);
    }
  }

  void Encode(const AppendPlan::Span& span, int layer) {
    const PageCodec& codec = GetPageCodec();
    const KvLayerView view = cache_.View(span.sequence, layer);
    const int dim = view.open.head_dim;
    const auto fresh =
        std::span(tokens_.at(span.sequence)).subspan(static_cast<size_t>(span.first_position));
    for (int head = 0; head < view.open.kv_heads; ++head) {
      const std::vector<float> k = TestValues(fresh, layer, head, Side::kKey, dim);
      const std::vector<float> v = TestValues(fresh, layer, head, Side::kValue, dim);
      for (int done = 0; done < span.tokens;) {
        const int64_t position = span.first_position + done;
        const int page = static_cast<int>(position / kPageTokens),
                  first = static_cast<int>(position % kPageTokens);
        const int n = std::min(kPageTokens - first, span.tokens - done);
        std::byte* block = view.OpenHead(page, head);
        if (first == 0) {
          std::vector<float> r(static_cast<size_t>(dim));
          if (page > 0 && InfoOf(view.open.k).tiles)
            OpeningReference(codec, view, page, head, r.data());
          codec.SetReference(view.open, block, r.data());
        }
        codec.EncodeKeys(view.open, block, first, {k.data() + int64_t{done} * dim, n, dim});
        codec.EncodeValues(view.open, block, first, {v.data() + int64_t{done} * dim, n, dim});
        done += n;
      }
    }
  }

  void Seal(const SealTask& task) {
    const PageCodec& codec = GetPageCodec();
    const KvLayerView view = cache_.View(task.sequence, task.layer);
    ASSERT_TRUE(view.visibility.seals);
    const int from = task.form - 1;
    ASSERT_NE(view.PageId(from, task.page), kNoPage);
    ASSERT_NE(view.PageId(task.form, task.page), kNoPage);
    (task.side == Side::kKey ? codec.SealKeys : codec.SealValues)(
        view.Layout(from), view.Head(from, task.page, task.head), view.Layout(task.form),
        view.Head(task.form, task.page, task.head), {});
  }

  KvCache& cache_;
  std::map<SequenceId, TokenList> tokens_;
  ExpectedPages expected_;
};

inline KvGeometry TestGeometry(std::vector<int> sliding_window, int kv_heads = 1,
                               int head_dim = 64) {
  return {static_cast<int>(sliding_window.size()), kv_heads, head_dim, std::move(sliding_window)};
}

inline CachePolicy TestPolicy(std::vector<Codec> k, std::vector<Codec> v) {
  CachePolicy policy;
  policy.k = std::move(k);
  policy.v = std::move(v);
  return policy;
}

inline std::unique_ptr<KvCache> MakeTestCache(const KvGeometry& geometry, const CachePolicy& policy,
                                              uint64_t budget = 0) {
  return std::make_unique<KvCache>(geometry, policy, MakeHostArenaMemory(uint64_t{1} << 30),
                                   budget);
}

inline TokenList TestTokens(int64_t count, uint64_t seed) {
  Random random(seed);
  TokenList tokens(static_cast<size_t>(count));
  for (int32_t& token : tokens) token = static_cast<int32_t>(random.Next() % 50000);
  return tokens;
}

}  // namespace tq
