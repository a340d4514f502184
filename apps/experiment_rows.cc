// SPDX-License-Identifier: Apache-2.0
#include "apps/experiment_rows.h"

#include <algorithm>
#include <charconv>
#include <sstream>

#include "lab/decode_ladder.h"
#include "turboquant/base/error.h"
#include "turboquant/kv/policy.h"

namespace tq::app {
namespace {

constexpr int kManyLayers = 64;

std::vector<std::string> WordsOf(const std::string& text) {
  std::istringstream in(text);
  return {std::istream_iterator<std::string>(in), {}};
}

[[noreturn]] void Unknown(const std::string& text, const std::string& word) {
  Throw(ErrorCode::kInvalidArgument, "row \"{}\": \"{}\" means nothing here", text, word);
}

// The N of "name=N", or nothing if the word is another one.
std::optional<int> NumberOf(const std::string& word, std::string_view name) {
  if (!word.starts_with(name)) return {};
  int number = 0;
  const char* end = word.data() + word.size();
  const auto [stop, error] = std::from_chars(word.data() + name.size(), end, number);
  if (error != std::errc() || stop != end) return {};
  return number;
}

std::string WithLayers(std::string text, int num_layers) {
  for (size_t at; (at = text.find("{-")) != std::string::npos;) {
    const size_t end = text.find('}', at);
    const int back = std::stoi(text.substr(at + 2, end - at - 2));
    if (num_layers < 2 * back - 1) {
      Throw(ErrorCode::kUnsupported, "needs a model of {} layers or more, this one has {}",
            2 * back - 1, num_layers);
    }
    text.replace(at, end + 1 - at, fmt::format("{}", num_layers - back));
  }
  return text;
}

}  // namespace

CompareType ParseDivergenceRow(const std::string& text, int num_layers) {
  const std::vector<CompareType> types = ParseCompareTypes({WithLayers(text, num_layers)});
  if (types.size() != 1)
    Throw(ErrorCode::kInvalidArgument, "row \"{}\": write one cache type", text);
  for (const std::string& side : {types[0].k, types[0].v})
    ParseCodecList(side, num_layers, kDefaultKeyCodec);
  return types[0];
}

NoiseRow ParseNoiseRow(const std::string& text) {
  const std::vector<std::string> words = WordsOf(text);
  if (words.size() != 2) Throw(ErrorCode::kInvalidArgument, "row \"{}\": write TYPE dim=N", text);
  const auto head_dim = NumberOf(words[1], "dim=");
  if (!head_dim) Unknown(text, words[1]);
  return {ParseCodec(words[0]), *head_dim};
}

BasisRow ParseBasisRow(const std::string& text) {
  const std::vector<std::string> words = WordsOf(text);
  if (words.size() != 2)
    Throw(ErrorCode::kInvalidArgument, "row \"{}\": write TYPE rotated, or TYPE original", text);
  const Codec codec = ParseCodec(words[0]);
  if (words[1] == "rotated") return {codec, lab::ReadBasis::kRotated};
  if (words[1] == "original") return {codec, lab::ReadBasis::kOriginal};
  Unknown(text, words[1]);
}

lab::BenchCase ParseSpeedRow(const std::string& text, int depth, int decode, bool quick) {
  const int pass = quick ? kQuickPassDivisor : 1;
  std::vector<std::string> words = WordsOf(text);
  if (words.empty()) Throw(ErrorCode::kInvalidArgument, "a row without a cache type");
  const std::vector<CompareType> types = ParseCompareTypes({words[0]});
  if (types.size() != 1 || types[0] != CompareType{.k = types[0].k, .v = types[0].v})
    Throw(ErrorCode::kInvalidArgument, "row \"{}\": speed is timed of plain cache types", text);
  lab::BenchCase test{.n_gen = decode, .n_depth = depth};
  for (auto word = words.begin() + 1; word != words.end(); ++word) {
    if (const auto tokens = NumberOf(*word, "pp=")) {
      test.n_prompt = *tokens / pass;
      test.n_gen = 0;
    } else if (const auto behind = NumberOf(*word, "d=")) {
      test.n_depth = *behind;
    } else if (const auto together = NumberOf(*word, "ub=")) {
      test.n_ubatch = *together / pass;
    } else {
      Unknown(text, *word);
    }
  }
  if (quick) test.n_depth /= kQuickDepthDivisor;
  test.type_k = types[0].k;
  test.type_v = types[0].v;
  for (const std::string& side : {test.type_k, test.type_v}) ParseCodec(side);
  return test;
}

std::optional<std::string> WhyNotInBuild(lab::Measure measure, const std::string& row) {
  try {
    switch (measure) {
      case lab::Measure::kDivergence:
      case lab::Measure::kRetrieval:
        ParseDivergenceRow(row, kManyLayers);
        break;
      case lab::Measure::kSpeed:
        ParseSpeedRow(row, 0, 1, false);
        break;
      case lab::Measure::kDecode:
        lab::ParseDecodeWay(row);
        break;
      case lab::Measure::kNoise:
        ParseNoiseRow(row);
        break;
      case lab::Measure::kBasis:
        ParseBasisRow(row);
        break;
      case lab::Measure::kNone:
        break;
    }
    return {};
  } catch (const Error& error) {
    if (error.code() != ErrorCode::kInvalidArgument) throw;
    return error.what();
  }
}

}  // namespace tq::app
