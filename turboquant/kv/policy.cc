// SPDX-License-Identifier: Apache-2.0
#include "turboquant/kv/policy.h"

#include <algorithm>
#include <cctype>
#include <optional>

#include "turboquant/base/error.h"
#include "turboquant/kv/escaped_text.h"

namespace tq {
namespace {

// Walks over the text and knows the column (from 1) of what it looks at.
class CodecListParser {
 public:
  CodecListParser(std::string_view text, int num_layers, Codec fallback)
      : text_(text), codecs_(static_cast<size_t>(num_layers), fallback), given_(codecs_.size()) {}

  std::vector<Codec> Parse() {
    if (text_.empty()) Fail(0, "it is empty; cache types are {}", CodecNames());
    if (text_.find(':') == std::string_view::npos && text_.find(',') == std::string_view::npos) {
      std::fill(codecs_.begin(), codecs_.end(), ParseType());
      return codecs_;
    }
    std::optional<Codec> codec;
    for (;;) {
      if (!codec || StartsType()) {
        const size_t start = at_;
        codec = ParseType();
        if (at_ == text_.size() || text_[at_] != ':') {
          Fail(start, "\"{}\" names no layers; write TYPE for all layers or TYPE:LAYERS for each",
               text_.substr(start, at_ - start));
        }
        ++at_;
      }
      ParseLayers(*codec);
      if (at_ == text_.size()) return codecs_;
      ++at_;  // the comma
    }
  }

 private:
  template <typename... Args>
  [[noreturn]] void Fail(size_t at, fmt::format_string<Args...> format, Args&&... args) const {
    Throw(ErrorCode::kInvalidArgument, "cache type \"{}\", column {}: {}", Escaped(text_), at + 1,
          fmt::format(format, std::forward<Args>(args)...));
  }

  bool StartsType() const {
    return at_ < text_.size() && std::isalpha(static_cast<unsigned char>(text_[at_])) != 0;
  }

  Codec ParseType() {
    const size_t start = at_;
    while (at_ < text_.size() && text_[at_] != ':' && text_[at_] != ',') ++at_;
    const std::string_view name = text_.substr(start, at_ - start);
    if (name.empty()) Fail(start, "a type is missing; cache types are {}", CodecNames());
    try {
      return ParseCodec(name);
    } catch (const Error&) {
      Fail(start, "unknown type \"{}\"; cache types are {}", Escaped(name), CodecNames());
    }
  }

  int ParseLayer() {
    const size_t start = at_;
    int64_t layer = 0;
    while (at_ < text_.size() && std::isdigit(static_cast<unsigned char>(text_[at_])) != 0) {
      layer = std::min<int64_t>(layer * 10 + (text_[at_++] - '0'), 1 << 30);
    }
    if (at_ == start) Fail(start, "a layer number is missing");
    if (layer >= static_cast<int64_t>(codecs_.size())) {
      Fail(start, "there is no layer {}; the model has {} layers, 0 to {}",
           text_.substr(start, at_ - start), codecs_.size(), static_cast<int>(codecs_.size()) - 1);
    }
    return static_cast<int>(layer);
  }

  // LAYER or FIRST-LAST, then a comma or the end.
  void ParseLayers(Codec codec) {
    const size_t start = at_;
    const int first = ParseLayer();
    int last = first;
    if (at_ < text_.size() && text_[at_] == '-') {
      ++at_;
      last = ParseLayer();
    }
    if (at_ < text_.size() && text_[at_] != ',') {
      Fail(at_, "'{}' cannot stand here; after a layer comes '-', ',' or the end",
           Escaped(text_.substr(at_, 1)));
    }
    if (last < first) Fail(start, "the range {}-{} is empty", first, last);
    for (int layer = first; layer <= last; ++layer) {
      const auto i = static_cast<size_t>(layer);
      if (given_[i]) Fail(start, "layer {} is given twice", layer);
      given_[i] = true;
      codecs_[i] = codec;
    }
  }

  std::string_view text_;
  size_t at_ = 0;
  std::vector<Codec> codecs_;
  std::vector<bool> given_;
};

}  // namespace

std::vector<Codec> ParseCodecList(std::string_view text, int num_layers, Codec fallback) {
  return CodecListParser(text, num_layers, fallback).Parse();
}

std::string CodecListText(const std::vector<Codec>& codecs) {
  if (codecs.empty()) return "";
  if (std::all_of(codecs.begin(), codecs.end(), [&](Codec c) { return c == codecs[0]; })) {
    return std::string(InfoOf(codecs[0]).name);
  }
  std::string text;
  std::vector<Codec> done;
  for (const Codec codec : codecs) {
    if (std::find(done.begin(), done.end(), codec) != done.end()) continue;
    done.push_back(codec);
    text += text.empty() ? "" : ",";
    text += InfoOf(codec).name;
    char separator = ':';
    for (size_t first = 0; first < codecs.size(); ++first) {
      if (codecs[first] != codec) continue;
      size_t last = first;
      while (last + 1 < codecs.size() && codecs[last + 1] == codec) ++last;
      text += separator;
      text += last == first ? fmt::format("{}", first) : fmt::format("{}-{}", first, last);
      separator = ',';
      first = last;
    }
  }
  return text;
}

Codec OpenCodec(Codec final_codec) {
  return InfoOf(final_codec).tiles ? Codec::kTurbo8 : final_codec;
}

Codec AgedCodec(Codec codec, Codec aged) {
  return InfoOf(codec).tiles && InfoOf(aged).bits < InfoOf(codec).bits ? aged : codec;
}

bool Ages(const CachePolicy& policy) {
  return std::ranges::any_of(policy.ages, [&](const AgeStep& step) {
    const auto falls_to = [](Codec aged) {
      return [aged](Codec codec) { return AgedCodec(codec, aged) != codec; };
    };
    return std::ranges::any_of(policy.k, falls_to(step.k)) ||
           std::ranges::any_of(policy.v, falls_to(step.v));
  });
}

}  // namespace tq
