// SPDX-License-Identifier: Apache-2.0
// The text form of age steps.
#include <algorithm>
#include <cctype>

#include "turboquant/base/error.h"
#include "turboquant/kv/escaped_text.h"
#include "turboquant/kv/kv_view.h"
#include "turboquant/kv/policy.h"

namespace tq {
namespace {

// Walks over the text and knows the column (from 1) of what it looks at.
class AgeStepsParser {
 public:
  explicit AgeStepsParser(std::string_view text) : text_(text) {}

  std::vector<AgeStep> Parse() {
    if (text_.empty()) Fail(0, "it is empty; write AGE:TYPE,... such as 4096:turbo3_tcq");
    for (;;) {
      const size_t start = at_;
      ParseStep();
      CheckOrder(start);
      if (at_ == text_.size()) return std::move(steps_);
      ++at_;  // the comma
    }
  }

 private:
  template <typename... Args>
  [[noreturn]] void Fail(size_t at, fmt::format_string<Args...> format, Args&&... args) const {
    Throw(ErrorCode::kInvalidArgument, "cache age \"{}\", column {}: {}", Escaped(text_), at + 1,
          fmt::format(format, std::forward<Args>(args)...));
  }

  void ParseStep() {
    AgeStep step;
    step.age = ParseAge();
    if (at_ == text_.size() || text_[at_] != ':')
      Fail(at_, "a ':' and a type must follow the age, such as 4096:turbo3_tcq");
    ++at_;
    step.k = step.v = ParseType();
    if (at_ < text_.size() && text_[at_] == '/') {
      ++at_;
      step.v = ParseType();
    }
    if (at_ < text_.size() && text_[at_] != ',')
      Fail(at_, "'{}' cannot stand here; after a step comes ',' or the end",
           Escaped(text_.substr(at_, 1)));
    steps_.push_back(step);
  }

  int ParseAge() {
    const size_t start = at_;
    int64_t age = 0;
    while (at_ < text_.size() && std::isdigit(static_cast<unsigned char>(text_[at_])) != 0) {
      age = std::min<int64_t>(age * 10 + (text_[at_++] - '0'), int64_t{kMostAge} + 1);
    }
    if (at_ == start) Fail(start, "an age in tokens is missing");
    if (age < 1 || age > kMostAge) {
      Fail(start, "an age of {} tokens; give 1 to {}", text_.substr(start, at_ - start), kMostAge);
    }
    return static_cast<int>(age);
  }

  Codec ParseType() {
    const size_t start = at_;
    while (at_ < text_.size() && text_[at_] != ',' && text_[at_] != '/') ++at_;
    const std::string_view name = text_.substr(start, at_ - start);
    const auto falls_to = [](const CodecInfo& info) { return info.tiles && info.bits < 8; };
    std::string names;
    for (const CodecInfo& info : kCodecs) {
      if (falls_to(info)) names += (names.empty() ? "" : ", ") + std::string(info.name);
    }
    try {
      const Codec codec = ParseCodec(name);
      if (falls_to(InfoOf(codec))) return codec;
    } catch (const Error&) {
    }
    Fail(start, "tokens cannot age to \"{}\"; they can to {}", Escaped(name), names);
  }

  // The last step against the one before.
  void CheckOrder(size_t start) const {
    if (steps_.size() > kMaxAges) Fail(start, "more than {} steps", kMaxAges);
    if (steps_.size() < 2) return;
    const AgeStep &before = steps_[steps_.size() - 2], &last = steps_.back();
    if (last.window_pages() <= before.window_pages()) {
      Fail(start, "{} tokens are not older than {} (in pages of 128); ages rise", last.age,
           before.age);
    }
    const int keys = InfoOf(last.k).bits - InfoOf(before.k).bits;
    const int values = InfoOf(last.v).bits - InfoOf(before.v).bits;
    if (keys > 0 || values > 0 || keys + values == 0)
      Fail(start, "a step takes bits off keys, values or both, and adds none");
  }

  std::string_view text_;
  size_t at_ = 0;
  std::vector<AgeStep> steps_;
};

}  // namespace

std::vector<AgeStep> ParseAgeSteps(std::string_view text) { return AgeStepsParser(text).Parse(); }

std::string AgeStepsText(const std::vector<AgeStep>& steps) {
  std::string text;
  for (const AgeStep& step : steps) {
    text += fmt::format("{}{}:{}", text.empty() ? "" : ",", step.age, InfoOf(step.k).name);
    if (step.v != step.k) text += fmt::format("/{}", InfoOf(step.v).name);
  }
  return text;
}

}  // namespace tq
