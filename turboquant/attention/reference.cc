// SPDX-License-Identifier: Apache-2.0
// Attention as it is defined: decoded pages, double arithmetic, one query at a time.
#include <cmath>
#include <map>
#include <utility>
#include <vector>

#include "turboquant/attention/attention.h"
#include "turboquant/attention/visible_range.h"
#include "turboquant/codec/page_codec.h"

namespace tq {
namespace {

// Decoded keys and values [128][D] of one page of one head.
struct DecodedPage {
  std::vector<float> k;
  std::vector<float> v;
};

class DecodedPages {
 public:
  DecodedPages(const AttentionArgs& args, int head) : args_(args), head_(head) {}

  const DecodedPage& Get(int page, int form) {
    const auto [it, is_new] = pages_.try_emplace({page, form});
    if (is_new) Decode(page, form, it->second);
    return it->second;
  }

 private:
  void Decode(int page, int form, DecodedPage& out) const {
    const PageLayout& layout = args_.kv.Layout(form);
    const std::byte* head = args_.kv.Head(form, page, head_);
    // What lies past the end of the cache is undefined: only what is there is decoded.
    const int64_t begin = static_cast<int64_t>(page) * kPageTokens;
    const int64_t rows = std::min<int64_t>(kPageTokens, EndOfPages(args_) - begin);
    out.k.resize(static_cast<size_t>(rows * layout.head_dim));
    out.v.resize(out.k.size());
    const PageCodec& codec = GetPageCodec(Isa::kScalar);
    codec.DecodeKeys(layout, head, 0, MatrixView<float>(out.k.data(), rows, layout.head_dim));
    codec.DecodeValues(layout, head, 0, MatrixView<float>(out.v.data(), rows, layout.head_dim));
  }

  const AttentionArgs& args_;
  int head_;
  std::map<std::pair<int, int>, DecodedPage> pages_;
};

struct Visible {
  const float* k;
  const float* v;
};

void AttendOne(const AttentionArgs& args, int t, int head, DecodedPages& pages,
               std::vector<Visible>& visible) {
  const int dims = args.kv.open.head_dim;
  const int kv_heads = args.kv.open.kv_heads;
  const int kv_head = head / (args.q_heads / kv_heads);
  visible.clear();
  const PageRange range = PagesOf(args);
  for (int page = range.first; page < range.last; ++page) {
    const int form = FormOf(args, t, page);
    if (form == kNoForm) continue;
    const DecodedPage& decoded = pages.Get(page, form);
    const TokenRange tokens = VisibleInPage(args, t, page);
    for (int i = tokens.first; i < tokens.last; ++i) {
      visible.push_back({decoded.k.data() + i * dims, decoded.v.data() + i * dims});
    }
  }
  if (args.fresh_k != nullptr) {
    for (int i = 0; i <= t; ++i) {
      const int64_t position = args.first_position + t;
      if (args.first_position + i < args.kv.visibility.FirstVisible(position)) continue;
      const int64_t offset = i * args.fresh_stride + kv_head * dims;
      visible.push_back({args.fresh_k + offset, args.fresh_v + offset});
    }
  }

  const float* q = args.q + t * args.q_stride + head * dims;
  std::vector<double> scores(visible.size());
  double max = -1e300;
  for (size_t i = 0; i < visible.size(); ++i) {
    double sum = 0;
    for (int d = 0; d < dims; ++d) sum += static_cast<double>(q[d]) * visible[i].k[d];
    scores[i] = sum * args.scale;
    max = std::max(max, scores[i]);
  }
  std::vector<double> out(static_cast<size_t>(dims));
  double total = 0;
  for (size_t i = 0; i < visible.size(); ++i) {
    const double weight = std::exp(scores[i] - max);
    total += weight;
    for (int d = 0; d < dims; ++d) out[static_cast<size_t>(d)] += weight * visible[i].v[d];
  }
  for (int d = 0; d < dims; ++d) {
    args.out[t * args.out_stride + head * dims + d] =
        total > 0 ? static_cast<float>(out[static_cast<size_t>(d)] / total) : 0.0f;
  }
}

}  // namespace

void AttendReference(const AttentionArgs& args) {
  const int group = args.q_heads / args.kv.open.kv_heads;
  std::vector<Visible> visible;
  for (int kv_head = 0; kv_head < args.kv.open.kv_heads; ++kv_head) {
    DecodedPages pages(args, kv_head);
    for (int r = 0; r < group; ++r) {
      for (int t = 0; t < args.tokens; ++t) {
        AttendOne(args, t, kv_head * group + r, pages, visible);
      }
    }
  }
}

}  // namespace tq
