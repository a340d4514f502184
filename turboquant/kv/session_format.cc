// SPDX-License-Identifier: Apache-2.0
#include "turboquant/kv/session_format.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <set>
#include <type_traits>

#include "turboquant/base/error.h"
#include "turboquant/base/hash.h"
#include "turboquant/codec/codebook.h"
#include "turboquant/codec/trellis.h"

namespace tq {
namespace {

static_assert(std::endian::native == std::endian::little, "session files are little-endian");

class Writer {
 public:
  template <typename T>
  void Put(T value) {
    static_assert(std::is_arithmetic_v<T>);
    PutAll(std::span<const T>(&value, 1));
  }
  template <typename T>
  void PutAll(std::span<const T> values) {
    const auto bytes = std::as_bytes(values);
    bytes_.insert(bytes_.end(), bytes.begin(), bytes.end());
  }
  std::vector<std::byte> Take() { return std::move(bytes_); }

 private:
  std::vector<std::byte> bytes_;
};

class Reader {
 public:
  explicit Reader(std::span<const std::byte> bytes) : bytes_(bytes) {}

  template <typename T>
  T Get() {
    T value;
    std::memcpy(&value, Take(sizeof(T), "it ends within a field").data(), sizeof(T));
    return value;
  }
  bool GetBool() {
    const auto value = Get<uint8_t>();
    if (value > 1) Bad("a flag is {}", value);
    return value == 1;
  }
  // A number of things of which each takes at least `least_bytes` of what follows.
  size_t GetCount(uint64_t count, uint64_t least_bytes, const char* what) {
    if (count > bytes_.size() / least_bytes)
      Bad("it promises {} {}, more than it can hold", count, what);
    return static_cast<size_t>(count);
  }
  template <typename T>
  std::vector<T> GetAll(size_t count) {
    std::vector<T> values(count);
    const auto bytes = Take(count * sizeof(T), "it ends within a list");
    if (count > 0) std::memcpy(values.data(), bytes.data(), bytes.size());
    return values;
  }
  void End() const {
    if (!bytes_.empty()) Bad("{} bytes are left over at its end", bytes_.size());
  }
  template <typename... Args>
  [[noreturn]] static void Bad(fmt::format_string<Args...> format, Args&&... args) {
    Throw(ErrorCode::kCorruptFile, "its header is damaged: {}",
          fmt::format(format, std::forward<Args>(args)...));
  }

 private:
  std::span<const std::byte> Take(size_t n, const char* why_not) {
    if (n > bytes_.size()) Bad("{}", why_not);
    const auto taken = bytes_.first(n);
    bytes_ = bytes_.subspan(n);
    return taken;
  }
  std::span<const std::byte> bytes_;
};

std::vector<Codec> GetCodecs(Reader& in, size_t count) {
  std::vector<Codec> codecs;
  for (const uint8_t number : in.GetAll<uint8_t>(count)) {
    const auto known = [&](const CodecInfo& info) {
      return static_cast<uint8_t>(info.codec) == number;
    };
    if (std::none_of(kCodecs.begin(), kCodecs.end(), known))
      Reader::Bad("it names cache type {}, which is unknown", number);
    codecs.push_back(static_cast<Codec>(number));
  }
  return codecs;
}

SessionPage GetPage(Reader& in, size_t forms) {
  SessionPage page;
  page.forms = in.Get<uint8_t>();
  if (page.forms == 0 || page.forms >> forms != 0)
    Reader::Bad("a page has the forms {}", page.forms);
  for (int form = 0; form < static_cast<int>(forms); ++form) {
    if (page.Has(form)) page.checksums[static_cast<size_t>(form)] = in.Get<uint64_t>();
  }
  return page;
}

AgeStep GetAgeStep(Reader& in) {
  AgeStep step;
  step.age = in.Get<int32_t>();
  if (step.age < 1 || step.age > kMostAge) Reader::Bad("tokens change at an age of {}", step.age);
  const std::vector<Codec> codecs = GetCodecs(in, 2);
  step.k = codecs[0];
  step.v = codecs[1];
  return step;
}

}  // namespace

uint64_t SessionChecksum(SessionPreamble preamble, std::span<const std::byte> header_and_zeros) {
  preamble.header_checksum = 0;
  return Hash64(header_and_zeros, Hash64(std::as_bytes(std::span(&preamble, 1))));
}

std::vector<std::byte> WriteSessionHeader(const SessionHeader& h) {
  Writer out;
  out.Put(h.model_id);
  out.Put(h.calibration_id);
  out.Put(h.transform_id);
  out.Put<int32_t>(h.geometry.num_layers);
  out.Put<int32_t>(h.geometry.kv_heads);
  out.Put<int32_t>(h.geometry.head_dim);
  out.Put<int32_t>(kPageTokens);
  for (const int window : h.geometry.sliding_window) out.Put<int32_t>(window);
  for (const Codec codec : h.policy.k) out.Put(static_cast<uint8_t>(codec));
  for (const Codec codec : h.policy.v) out.Put(static_cast<uint8_t>(codec));
  out.Put<int32_t>(h.policy.window);
  out.Put<int32_t>(h.policy.sink_pages);
  out.Put<int32_t>(h.policy.rollback);
  out.Put<uint8_t>(h.policy.centring ? 1 : 0);
  out.Put(static_cast<uint32_t>(h.policy.ages.size()));
  for (const AgeStep& step : h.policy.ages) {
    out.Put<int32_t>(step.age);
    out.Put(static_cast<uint8_t>(step.k));
    out.Put(static_cast<uint8_t>(step.v));
  }
  out.Put(static_cast<uint32_t>(h.codebooks.size()));
  for (const auto& codebook : h.codebooks) {
    out.Put(static_cast<uint8_t>(codebook.codec));
    out.Put(codebook.id);
  }
  out.Put(static_cast<uint64_t>(h.tokens.size()));
  out.PutAll(std::span<const int32_t>(h.tokens));
  out.Put<int64_t>(h.recomputed);
  out.Put(static_cast<uint64_t>(h.extra.size()));
  out.PutAll(std::span<const std::byte>(h.extra));
  out.Put(static_cast<uint32_t>(h.groups.size()));
  for (const SessionGroup& group : h.groups) {
    out.Put<int32_t>(group.sliding_window);
    out.Put(static_cast<uint8_t>(group.form_bytes.size()));
    out.PutAll(std::span<const uint64_t>(group.form_bytes));
    out.PutAll(std::span<const int32_t>(group.lost_below));
    out.Put<int32_t>(group.first_page);
    out.Put(static_cast<uint32_t>(group.pages.size()));
    for (const SessionPage& page : group.pages) {
      out.Put(page.forms);
      for (int form = 0; form < kMaxForms; ++form) {
        if (page.Has(form)) out.Put(page.checksums[static_cast<size_t>(form)]);
      }
    }
  }
  return out.Take();
}

SessionHeader ReadSessionHeader(std::span<const std::byte> bytes) {
  Reader in(bytes);
  SessionHeader h;
  h.model_id = in.Get<uint64_t>();
  h.calibration_id = in.Get<uint64_t>();
  h.transform_id = in.Get<uint64_t>();
  h.geometry.num_layers = in.Get<int32_t>();
  h.geometry.kv_heads = in.Get<int32_t>();
  h.geometry.head_dim = in.Get<int32_t>();
  const auto page_tokens = in.Get<int32_t>();
  if (page_tokens != kPageTokens)
    Reader::Bad("its pages hold {} tokens, not {}", page_tokens, kPageTokens);
  if (h.geometry.num_layers <= 0) Reader::Bad("it has {} layers", h.geometry.num_layers);
  const size_t layers = in.GetCount(static_cast<uint64_t>(h.geometry.num_layers), 6, "layers");
  h.geometry.sliding_window = in.GetAll<int32_t>(layers);
  h.policy.k = GetCodecs(in, layers);
  h.policy.v = GetCodecs(in, layers);
  h.policy.window = in.Get<int32_t>();
  h.policy.sink_pages = in.Get<int32_t>();
  h.policy.rollback = in.Get<int32_t>();
  h.policy.centring = in.GetBool();
  for (size_t n = in.GetCount(in.Get<uint32_t>(), 6, "ages"); n > 0; --n)
    h.policy.ages.push_back(GetAgeStep(in));
  for (size_t n = in.GetCount(in.Get<uint32_t>(), 5, "codebooks"); n > 0; --n) {
    const Codec codec = GetCodecs(in, 1)[0];
    h.codebooks.push_back({codec, in.Get<uint32_t>()});
  }
  const auto tokens = in.Get<uint64_t>();
  h.tokens = in.GetAll<int32_t>(in.GetCount(tokens, sizeof(int32_t), "tokens"));
  h.recomputed = in.Get<int64_t>();
  const auto extra = in.Get<uint64_t>();
  h.extra = in.GetAll<std::byte>(in.GetCount(extra, 1, "bytes of the session's own"));
  const auto groups = in.Get<uint32_t>();
  h.groups.resize(in.GetCount(groups, 21, "groups of layers"));
  for (SessionGroup& group : h.groups) {
    group.sliding_window = in.Get<int32_t>();
    const auto forms = in.Get<uint8_t>();
    if (forms == 0 || forms > kMaxForms) Reader::Bad("its pages go through {} forms", forms);
    group.form_bytes = in.GetAll<uint64_t>(forms);
    group.lost_below = in.GetAll<int32_t>(forms - 1u);
    group.first_page = in.Get<int32_t>();
    const auto pages = in.Get<uint32_t>();
    group.pages.reserve(in.GetCount(pages, 9, "pages"));
    for (uint32_t i = 0; i < pages; ++i) group.pages.push_back(GetPage(in, forms));
  }
  in.End();
  return h;
}

uint64_t TransformId(const KvGeometry& geometry, const CachePolicy& policy) {
  const auto tiles = [](Codec codec) { return InfoOf(codec).tiles; };
  if (std::none_of(policy.k.begin(), policy.k.end(), tiles) &&
      std::none_of(policy.v.begin(), policy.v.end(), tiles))
    return 0;
  const uint64_t keys = Hash64(std::as_bytes(RotationSigns(geometry.head_dim, Side::kKey)));
  return Hash64(std::as_bytes(RotationSigns(geometry.head_dim, Side::kValue)), keys);
}

std::vector<SessionHeader::CodebookId> CodebookIds(const CachePolicy& policy) {
  std::set<Codec> used(policy.k.begin(), policy.k.end());
  used.insert(policy.v.begin(), policy.v.end());
  for (const AgeStep& step : policy.ages) used.insert({step.k, step.v});
  std::vector<SessionHeader::CodebookId> ids;
  for (const Codec codec : used) {
    const CodecInfo& info = InfoOf(codec);
    if (!info.tiles || info.bits == 8) continue;
    ids.push_back(
        {codec, info.trellis ? TrellisOfBits(info.bits).id : CodebookOfBits(info.bits).id});
  }
  return ids;
}

}  // namespace tq
