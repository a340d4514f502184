// SPDX-License-Identifier: Apache-2.0
#include "lab/needle_prompt.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>

#include "turboquant/base/error.h"
#include "turboquant/base/random.h"
#include "turboquant/codec/page_layout.h"

namespace tq::lab {
namespace {

// A question and what is generated do not fill a page.
constexpr int kQuestionTokens = kPageTokens - 1 - kNeedleSpareTokens;
constexpr int kLeastFiller = 64;  // tokens of text between needles, on average
constexpr int64_t kSearch = 48;   // tokens within which a sentence's end is sought

constexpr std::array<std::string_view, 16> kAdjectives = {
    "amber",  "brave", "calm",   "distant", "early", "faint",  "gentle", "hollow",
    "joyful", "lucky", "narrow", "patient", "quick", "silver", "tall",   "wooden"};
constexpr std::array<std::string_view, 16> kNouns = {
    "anchor", "bridge", "candle", "desert", "engine", "forest",  "garden", "harbor",
    "island", "ladder", "meadow", "orchid", "pencil", "railway", "temple", "violin"};

std::vector<std::string> DrawKeys(int count, Random& random) {
  std::vector<std::string> keys;
  while (static_cast<int>(keys.size()) < count) {
    std::string key = fmt::format("{} {}", kAdjectives[random.Next() % kAdjectives.size()],
                                  kNouns[random.Next() % kNouns.size()]);
    if (std::ranges::find(keys, key) == keys.end()) keys.push_back(std::move(key));
  }
  return keys;
}

std::string DrawValue(Random& random) {  // seven digits
  return fmt::format("{}", 1'000'000 + random.Next() % 9'000'000);
}

}  // namespace

NeedleTask ParseNeedleTask(std::string_view name) {
  std::string names;
  for (const NeedleTaskInfo& info : kNeedleTasks) {
    if (info.name == name) return info.task;
    names += fmt::format("{}{}", names.empty() ? "" : ", ", info.name);
  }
  Throw(ErrorCode::kInvalidArgument, "there is no task \"{}\"; there are {}", name, names);
}

std::string_view NameOf(NeedleTask task) { return kNeedleTasks[static_cast<size_t>(task)].name; }

NeedleMaker::NeedleMaker(const Tokenizer& tokenizer, std::string_view text, int depths,
                         uint64_t seed)
    : tokenizer_(tokenizer),
      text_(tokenizer.Encode(text, false, false)),
      depths_(depths),
      seed_(seed) {
  if (text_.empty())
    Throw(ErrorCode::kInvalidArgument, "the text to hide needles in is empty; give another");
  constexpr size_t kMostKeys = kAdjectives.size() * kNouns.size();
  if (depths < 1 || static_cast<size_t>(depths) > kMostKeys)
    Throw(ErrorCode::kInvalidArgument, "{} depths: give 1 to {}", depths, kMostKeys);
  ends_.reserve(text_.size());
  for (const TokenId token : text_) {
    const std::string bytes = tokenizer.TokenBytes(token);
    ends_.push_back(bytes.ends_with('.') || bytes.find('\n') != std::string::npos);
  }
}

std::vector<NeedlePrompt> NeedleMaker::Prompts(NeedleTask task, int context, int trial) const {
  Random random(seed_ * 1000003 + static_cast<uint64_t>(context) * 7919 +
                static_cast<uint64_t>(trial));
  for (int i = 0; i < 4; ++i) random.Next();  // neighbouring seeds part
  const size_t from = random.Next() % text_.size();
  const std::vector<std::string> keys = DrawKeys(depths_, random);
  std::vector<std::string> values;
  for (int i = 0; i < depths_; ++i) values.push_back(DrawValue(random));

  const auto encode = [&](const std::string& t) { return tokenizer_.Encode(t, false, false); };
  std::vector<Needle> needles;
  std::vector<NeedleQuestion> questions;
  if (task == NeedleTask::kMultiValue) {
    std::vector<NeedleAnswer> answers;
    for (int i = 0; i < depths_; ++i) {
      const std::string& value = values[static_cast<size_t>(i)];
      needles.push_back(
          {i, encode(fmt::format(" One of the magic numbers of the {} is {}.", keys[0], value))});
      answers.push_back({i, value, 0, 0});
    }
    questions.push_back(
        Question(fmt::format("\n\nThe {} magic numbers of the {} are", depths_, keys[0]),
                 std::move(answers)));
  } else {
    for (int i = 0; i < depths_; ++i) {
      const std::string about =
          fmt::format("The magic number of the {} is", keys[static_cast<size_t>(i)]);
      const std::string& value = values[static_cast<size_t>(i)];
      needles.push_back({i, encode(fmt::format(" {} {}.", about, value))});
      questions.push_back(Question("\n\n" + about, {{i, value, 0, 0}}));
    }
  }
  const int tokens = (context - kPageTokens) / kPageTokens * kPageTokens;
  if (task != NeedleTask::kSingle) return {{Haystack(tokens, from, needles), std::move(questions)}};
  std::vector<NeedlePrompt> prompts;
  for (size_t i = 0; i < needles.size(); ++i)
    prompts.push_back({Haystack(tokens, from, {needles[i]}), {std::move(questions[i])}});
  return prompts;
}

std::vector<TokenId> NeedleMaker::Haystack(int tokens, size_t from,
                                           const std::vector<Needle>& needles) const {
  const SpecialTokens& special = tokenizer_.special();
  const size_t bos = special.add_bos ? 1 : 0;
  const size_t taken =
      std::accumulate(needles.begin(), needles.end(), bos,
                      [](size_t sum, const Needle& needle) { return sum + needle.tokens.size(); });
  const size_t least = taken + static_cast<size_t>(kLeastFiller) * needles.size();
  if (tokens < 0 || static_cast<size_t>(tokens) < least) {
    const size_t pages = (least + kPageTokens - 1) / kPageTokens + 1;
    Throw(ErrorCode::kInvalidArgument,
          "{} needles and a question want a context of {} tokens at least", needles.size(),
          pages * kPageTokens);
  }
  const size_t filler = static_cast<size_t>(tokens) - taken;
  std::vector<TokenId> haystack;
  if (bos != 0) haystack.push_back(special.bos);
  size_t used = 0;
  const auto fill_to = [&](size_t end) {
    for (; used < end; ++used) haystack.push_back(text_[(from + used) % text_.size()]);
  };
  for (const Needle& needle : needles) {
    const auto target = static_cast<size_t>(Depth(needle.depth) * static_cast<double>(filler));
    fill_to(SentenceEnd(from, target, used, filler));
    haystack.insert(haystack.end(), needle.tokens.begin(), needle.tokens.end());
  }
  fill_to(filler);
  return haystack;
}

// The place nearest to `target` that follows a sentence's end, within [least, most].
size_t NeedleMaker::SentenceEnd(size_t from, size_t target, size_t least, size_t most) const {
  const auto at = static_cast<int64_t>(target);
  for (int64_t step = 0; step <= kSearch; ++step) {
    for (const int64_t place : {at - step, at + step}) {
      if (place <= static_cast<int64_t>(least) || place > static_cast<int64_t>(most)) continue;
      if (ends_[(from + static_cast<size_t>(place) - 1) % text_.size()])
        return static_cast<size_t>(place);
    }
  }
  return std::max(target, least);
}

NeedleQuestion NeedleMaker::Question(const std::string& text,
                                     std::vector<NeedleAnswer> answers) const {
  NeedleQuestion question;
  question.text = tokenizer_.Encode(text, false, false);
  question.answers = std::move(answers);
  for (NeedleAnswer& answer : question.answers) {
    const bool first = &answer == &question.answers.front();
    for (const TokenId token :
         tokenizer_.Encode((first ? " " : ", ") + answer.value, false, false)) {
      const std::string bytes = tokenizer_.TokenBytes(token);
      const bool digits = bytes.find_first_of("0123456789") != std::string::npos;
      if (digits && answer.end == 0) answer.begin = static_cast<int>(question.reply.size());
      question.reply.push_back(token);
      if (digits) answer.end = static_cast<int>(question.reply.size());
    }
    if (answer.end == 0)
      Throw(ErrorCode::kUnsupported, "the tokenizer writes no digits: there is nothing to find");
  }
  // What leads to the first value is part of the question.
  const int lead = question.answers.front().begin;
  question.text.insert(question.text.end(), question.reply.begin(), question.reply.begin() + lead);
  question.reply.erase(question.reply.begin(), question.reply.begin() + lead);
  for (NeedleAnswer& answer : question.answers) {
    answer.begin -= lead;
    answer.end -= lead;
  }
  if (question.text.size() + question.reply.size() > kQuestionTokens) {
    Throw(ErrorCode::kInvalidArgument,
          "a question with {} answers takes more than {} tokens: give fewer depths",
          question.answers.size(), kQuestionTokens);
  }
  return question;
}

}  // namespace tq::lab
