// SPDX-License-Identifier: Apache-2.0
#include "turboquant/text/pretokenizer.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <fmt/ranges.h>
#include <pcre2.h>

#include <array>

#include "turboquant/base/error.h"
#include "turboquant/text/utf8.h"

namespace tq {
namespace {

// The published patterns. Each is applied to the pieces that the one before has left.
struct PretokenizerInfo {
  std::string_view name;
  std::array<const char*, 2> patterns;  // the second may be null
  bool whole_pieces_first = false;
  bool add_bos = false;
};

constexpr const char* kGpt2 =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
constexpr const char* kQwen2 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|)"
    R"(\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr const char* kLlama3 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|)"
    R"(\s*[\r\n]+|\s+(?!\S)|\s+)";

constexpr std::array<PretokenizerInfo, 4> kPretokenizers = {{
    {.name = "gpt-2", .patterns = {kGpt2}},
    {.name = "smollm", .patterns = {R"(\p{N})", kGpt2}},
    {.name = "qwen2", .patterns = {kQwen2}},
    {.name = "llama-bpe", .patterns = {kLlama3}, .whole_pieces_first = true, .add_bos = true},
}};

std::vector<std::string_view> Names() {
  std::vector<std::string_view> names;
  for (const PretokenizerInfo& info : kPretokenizers) names.push_back(info.name);
  return names;
}

// Calls fn(run, is_utf8) on the longest runs of well-formed and of other bytes.
template <typename Fn>
void ForUtf8Runs(std::string_view text, const Fn& fn) {
  size_t begin = 0;
  bool good = false;
  for (size_t at = 0; at < text.size();) {
    const int length = Utf8Length(text.substr(at));
    if (at > begin && (length != 0) != good) {
      fn(text.substr(begin, at - begin), good);
      begin = at;
    }
    good = length != 0;
    at += length != 0 ? static_cast<size_t>(length) : 1;
  }
  if (begin < text.size()) fn(text.substr(begin), good);
}

}  // namespace

class Pretokenizer::Pattern {
 public:
  explicit Pattern(const char* pattern) {
    int error = 0;
    PCRE2_SIZE offset = 0;
    code_ = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern), PCRE2_ZERO_TERMINATED,
                          PCRE2_UTF | PCRE2_UCP, &error, &offset, nullptr);
    TQ_CHECK(code_ != nullptr);
    pcre2_jit_compile(code_, PCRE2_JIT_COMPLETE);  // only speed is lost where there is no JIT
  }
  ~Pattern() { pcre2_code_free(code_); }
  Pattern(const Pattern&) = delete;
  Pattern& operator=(const Pattern&) = delete;

  // Appends the matches in `text`, which is well-formed UTF-8, and what lies between them.
  void Split(std::string_view text, std::vector<std::string_view>& out) const {
    const std::unique_ptr<pcre2_match_data, decltype(&pcre2_match_data_free)> match(
        pcre2_match_data_create(1, nullptr), &pcre2_match_data_free);
    if (match == nullptr) Throw(ErrorCode::kOutOfMemory, "no memory left to split a text");
    const auto* subject = reinterpret_cast<PCRE2_SPTR>(text.data());
    const PCRE2_SIZE* span = pcre2_get_ovector_pointer(match.get());
    size_t at = 0;
    // Valid UTF-8 is promised: checking again at every match would make this quadratic.
    while (at < text.size() &&
           pcre2_match(code_, subject, text.size(), at, PCRE2_NO_UTF_CHECK | PCRE2_NOTEMPTY,
                       match.get(), nullptr) > 0) {
      if (span[0] > at) out.push_back(text.substr(at, span[0] - at));
      out.push_back(text.substr(span[0], span[1] - span[0]));
      at = span[1];
    }
    if (at < text.size()) out.push_back(text.substr(at));
  }

 private:
  pcre2_code* code_;
};

Pretokenizer::Pretokenizer() = default;
Pretokenizer::Pretokenizer(Pretokenizer&&) noexcept = default;
Pretokenizer& Pretokenizer::operator=(Pretokenizer&&) noexcept = default;
Pretokenizer::~Pretokenizer() = default;

Pretokenizer Pretokenizer::FromName(std::string_view name) {
  for (const PretokenizerInfo& info : kPretokenizers) {
    if (info.name != name) continue;
    Pretokenizer result;
    result.name_ = name;
    result.whole_pieces_first_ = info.whole_pieces_first;
    result.add_bos_ = info.add_bos;
    for (const char* pattern : info.patterns) {
      if (pattern != nullptr) result.patterns_.push_back(std::make_unique<const Pattern>(pattern));
    }
    return result;
  }
  Throw(ErrorCode::kUnsupported,
        "the model's pre-tokenizer '{}' (tokenizer.ggml.pre) is not supported; there are: {}", name,
        fmt::join(Names(), ", "));
}

std::vector<std::string_view> Pretokenizer::Split(std::string_view text) const {
  std::vector<std::string_view> pieces;
  std::vector<std::string_view> finer;
  ForUtf8Runs(text, [&](std::string_view run, bool is_utf8) {
    if (!is_utf8) {
      pieces.push_back(run);
      return;
    }
    std::vector<std::string_view> parts = {run};
    for (const auto& pattern : patterns_) {
      finer.clear();
      for (const std::string_view part : parts) pattern->Split(part, finer);
      parts.swap(finer);
    }
    pieces.insert(pieces.end(), parts.begin(), parts.end());
  });
  return pieces;
}

}  // namespace tq
