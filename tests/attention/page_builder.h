// SPDX-License-Identifier: Apache-2.0
// One sequence at one layer in a plain buffer, made with PageCodec: every page in both forms.
#pragma once

#include <cstring>
#include <span>
#include <vector>

#include "turboquant/base/aligned_buffer.h"
#include "turboquant/base/random.h"
#include "turboquant/codec/page_codec.h"
#include "turboquant/kv/kv_view.h"
#include "turboquant/kv/policy.h"

namespace tq {

struct PageSpec {
  int head_dim = 64;
  int kv_heads = 1;
  Codec k = Codec::kTurbo3;
  Codec v = Codec::kTurbo3;
  int length = 0;
  Visibility visibility = {};
  struct Age {
    int window_pages;
    Codec k, v;
    int aged_below = 0;
  };
  std::vector<Age> ages = {};
};

class BuiltPages {
 public:
  // k, v: [length][G][D].
  BuiltPages(const PageSpec& spec, const float* k, const float* v) {
    const PageLayout open =
        MakePageLayout(spec.head_dim, spec.kv_heads, OpenCodec(spec.k), OpenCodec(spec.v));
    const PageLayout sealed = MakePageLayout(spec.head_dim, spec.kv_heads, spec.k, spec.v);
    const int pages = (spec.length + kPageTokens - 1) / kPageTokens;
    const uint64_t open_bytes = (open.bytes() + kPageIdUnit - 1) / kPageIdUnit * kPageIdUnit;
    const uint64_t sealed_bytes = (sealed.bytes() + kPageIdUnit - 1) / kPageIdUnit * kPageIdUnit;
    uint64_t aged_bytes = 0;
    for (const PageSpec::Age& age : spec.ages) {
      const PageLayout layout = MakePageLayout(spec.head_dim, spec.kv_heads, age.k, age.v);
      std::vector<uint32_t>& ids = aged_ids_.emplace_back();
      for (int page = 0; page < pages; ++page) {
        ids.push_back(static_cast<uint32_t>((pages * (open_bytes + sealed_bytes) + aged_bytes) /
                                            kPageIdUnit));
        aged_bytes += (layout.bytes() + kPageIdUnit - 1) / kPageIdUnit * kPageIdUnit;
      }
      view_.aged[static_cast<size_t>(view_.num_aged++)] = {age.window_pages, age.aged_below,
                                                           nullptr, 0, layout};
    }
    for (size_t i = 0; i < aged_ids_.size(); ++i) view_.aged[i].pages = aged_ids_[i].data();
    arena_ =
        AlignedBuffer<std::byte>(pages * (open_bytes + sealed_bytes) + aged_bytes + kPageIdUnit);
    std::memset(arena_.data(), 0xff, arena_.size());  // stale bytes: NaN as f16 and f32
    for (int page = 0; page < pages; ++page) {
      open_ids_.push_back(static_cast<uint32_t>(page * open_bytes / kPageIdUnit));
      sealed_ids_.push_back(
          static_cast<uint32_t>((pages * open_bytes + page * sealed_bytes) / kPageIdUnit));
    }
    view_.arena = arena_.data();
    view_.open_pages = open_ids_.data();
    view_.sealed_pages = sealed_ids_.data();
    view_.num_pages = pages;
    view_.length = spec.length;
    view_.open = open;
    view_.sealed = sealed;
    view_.visibility = spec.visibility;
    view_.visibility.seals = InfoOf(spec.k).tiles || InfoOf(spec.v).tiles;
    for (int page = 0; page < pages; ++page) {
      for (int head = 0; head < spec.kv_heads; ++head) Fill(spec, page, head, k, v);
    }
  }

  const KvLayerView& view() const { return view_; }
  std::span<const std::byte> arena() const { return {arena_.data(), arena_.size()}; }

 private:
  void Fill(const PageSpec& spec, int page, int head, const float* k, const float* v) {
    const PageCodec& codec = GetPageCodec();
    const int d = spec.head_dim;
    const int stride = spec.kv_heads * d;
    const int begin = page * kPageTokens;
    const int tokens = std::min(kPageTokens, spec.length - begin);
    std::byte* open = view_.OpenHead(page, head);
    std::vector<float> mean(static_cast<size_t>(d), 0.0f);
    if (page > 0) codec.MeanKey(view_.open, view_.OpenHead(page - 1, head), mean.data());
    codec.SetReference(view_.open, open, mean.data());
    const int64_t offset = static_cast<int64_t>(begin) * stride + head * d;
    codec.EncodeKeys(view_.open, open, 0, {k + offset, tokens, d, stride});
    codec.EncodeValues(view_.open, open, 0, {v + offset, tokens, d, stride});
    if (tokens < kPageTokens || !view_.visibility.seals) return;
    for (int form = kSealedForm; form <= kSealedForm + view_.num_aged; ++form) {
      const PageLayout& from = view_.Layout(form - 1);
      const std::byte* before = view_.Head(form - 1, page, head);
      codec.SealKeys(from, before, view_.Layout(form), view_.Head(form, page, head), {});
      codec.SealValues(from, before, view_.Layout(form), view_.Head(form, page, head), {});
    }
  }

  AlignedBuffer<std::byte> arena_;
  std::vector<uint32_t> open_ids_, sealed_ids_;
  std::vector<std::vector<uint32_t>> aged_ids_;
  KvLayerView view_;
};

inline std::vector<float> GaussianVector(Random& random, int64_t n, double sigma = 1) {
  std::vector<float> x(static_cast<size_t>(n));
  for (float& value : x) value = static_cast<float>(sigma * random.Gaussian());
  return x;
}

}  // namespace tq
