// SPDX-License-Identifier: Apache-2.0
#include "apps/compare_types.h"

#include <algorithm>
#include <charconv>

#include "turboquant/base/error.h"
#include "turboquant/kv/policy.h"

namespace tq::app {
namespace {

constexpr int kMostTokens = 1 << 24;

// One item and where it stands in what the user wrote.
class ItemParser {
 public:
  ItemParser(const std::string& word, size_t begin, size_t end)
      : word_(word), begin_(begin), end_(end) {}

  CompareType Parse() {
    CompareType type;
    size_t at = std::min(word_.find('+', begin_), end_);
    ParsePair(at, type);
    while (at < end_) {
      const size_t option = at + 1;
      at = std::min(word_.find('+', option), end_);
      ParseOption(option, at, type);
    }
    return type;
  }

 private:
  template <typename... Args>
  [[noreturn]] void Fail(size_t at, fmt::format_string<Args...> format, Args&&... args) const {
    Throw(ErrorCode::kInvalidArgument, "--types \"{}\", column {}: {}", word_, at + 1,
          fmt::format(format, std::forward<Args>(args)...));
  }

  void ParsePair(size_t end, CompareType& type) const {
    const size_t slash = std::min(word_.find('/', begin_), end);
    type.k = word_.substr(begin_, slash - begin_);
    type.v = slash < end ? word_.substr(slash + 1, end - slash - 1) : type.k;
    if (type.k.empty()) Fail(begin_, "a type is missing; write TYPE or TYPE_K/TYPE_V");
    if (type.v.empty()) Fail(slash + 1, "the type of values is missing");
    if (const size_t second = type.v.find('/'); second != std::string::npos)
      Fail(slash + 1 + second, "a second slash; write TYPE or TYPE_K/TYPE_V");
  }

  void ParseOption(size_t begin, size_t end, CompareType& type) const {
    const std::string option = word_.substr(begin, end - begin);
    const size_t equals = option.find('=');
    const std::string name = option.substr(0, equals);
    if (name == "window" || name == "sinks") {
      (name == "window" ? type.window : type.sinks) =
          ParseTokens(begin + std::min(equals, option.size()), end);
    } else if (name == "age") {
      type.ages = ParseAges(begin + std::min(equals, option.size()), end);
    } else if (name == "pass") {
      type.pass = ParseTokens(begin + std::min(equals, option.size()), end);
      if (*type.pass == 0) Fail(begin, "a pass of no tokens");
    } else if (option == "no-centring") {
      type.no_centring = true;
    } else if (option == "no-calibration") {
      type.no_calibration = true;
    } else if (option == "tokens") {
      type.tokens = true;
    } else if (option == "simulated") {
      type.simulated = true;
    } else if (option == "bare") {
      type.window = type.sinks = 0;
      type.no_centring = type.no_calibration = type.tokens = true;
    } else if (const lab::IdeaInfo* idea = lab::FindIdea(name)) {
      type.ideas.Add(idea->idea, ParseIdeaNumber(*idea, begin + name.size(), end));
    } else {
      Fail(begin, "unknown option \"{}\"; options are {}", option, CompareOptions());
    }
  }

  // "=F", or nothing where the idea takes no number.
  double ParseIdeaNumber(const lab::IdeaInfo& idea, size_t begin, size_t end) const {
    if (!idea.TakesNumber()) {
      if (begin < end) Fail(begin, "{} takes no number", idea.name);
      return 0;
    }
    double number = -1;
    const char* last = word_.data() + end;
    if (begin < end) {
      const auto [stop, error] = std::from_chars(word_.data() + begin + 1, last, number);
      if (error == std::errc() && stop == last && idea.Allows(number)) return number;
    }
    Fail(begin, "{} wants a number {}", idea.Option(), idea.Range());
  }

  // "=AGE:TYPE,..."
  std::string ParseAges(size_t begin, size_t end) const {
    try {
      return AgeStepsText(ParseAgeSteps(std::string_view(word_).substr(
          std::min(begin + 1, end), end - std::min(begin + 1, end))));
    } catch (const Error& error) {
      Fail(begin, "{}", error.what());
    }
  }

  // "=N"
  int ParseTokens(size_t begin, size_t end) const {
    int tokens = -1;
    const char* last = word_.data() + end;
    if (begin < end) {
      const auto [stop, error] = std::from_chars(word_.data() + begin + 1, last, tokens);
      if (error == std::errc() && stop == last && tokens >= 0 && tokens <= kMostTokens)
        return tokens;
    }
    Fail(begin, "a number of tokens is missing, such as \"=128\"");
  }

  const std::string& word_;
  size_t begin_, end_;
};

}  // namespace

bool CompareType::IsBare() const {
  return window == 0 && sinks == 0 && no_centring && no_calibration && tokens;
}

std::string CompareType::Name() const {
  std::string name = k == v ? k : k + " / " + v;
  if (IsBare()) {
    name += " +bare";
  } else {
    if (window) name += fmt::format(" +window={}", *window);
    if (sinks) name += fmt::format(" +sinks={}", *sinks);
    if (!ages.empty()) name += fmt::format(" +age={}", ages);
    if (no_centring) name += " +no-centring";
    if (no_calibration) name += " +no-calibration";
    if (tokens) name += " +tokens";
    if (simulated) name += " +simulated";
  }
  if (pass) name += fmt::format(" +pass={}", *pass);
  return name + ideas.Name();
}

std::string CompareOptions() {
  std::string text =
      "window=N, sinks=N, pass=N, age=AGE:TYPE,..., no-centring, no-calibration, tokens (count "
      "both to the token), "
      "simulated, bare (all cures off); ideas of others, simulated: ";
  for (const lab::IdeaInfo& idea : lab::kIdeas) {
    text += fmt::format("{}{}", &idea == &lab::kIdeas.front() ? "" : ", ", idea.Option());
    if (idea.TakesNumber()) text += " " + idea.Range();
  }
  return text;
}

std::vector<CompareType> ParseCompareTypes(const std::vector<std::string>& words) {
  std::vector<CompareType> types;
  const auto add = [&](const std::string& word, size_t begin, size_t end) {
    const CompareType type = ItemParser(word, begin, end).Parse();
    if (std::find(types.begin(), types.end(), type) == types.end()) types.push_back(type);
  };
  for (const std::string& word : words) {
    if (word.find(':') != std::string::npos) {
      add(word, 0, word.size());
      continue;
    }
    for (size_t begin = 0; begin <= word.size();) {
      const size_t end = std::min(word.find(',', begin), word.size());
      add(word, begin, end);
      begin = end + 1;
    }
  }
  return types;
}

}  // namespace tq::app
