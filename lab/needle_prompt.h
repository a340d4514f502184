// SPDX-License-Identifier: Apache-2.0
// Needles in a haystack: numbers hidden in a long text, and questions after them. One text holds
// needles at all depths wherever the task allows it, so that it is read once and asked many times.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "turboquant/text/tokenizer.h"

namespace tq::lab {

enum class NeedleTask : uint8_t { kSingle, kMultiKey, kMultiValue };

struct NeedleTaskInfo {
  NeedleTask task;
  std::string_view name;
  std::string_view summary;  // for help and documents
};
// In the order of the enumeration.
inline constexpr std::array kNeedleTasks = {
    NeedleTaskInfo{NeedleTask::kSingle, "single", "one needle in a text of its own per depth"},
    NeedleTaskInfo{NeedleTask::kMultiKey, "multi-key",
                   "a needle of its own key at every depth; asked for each, the others distract"},
    NeedleTaskInfo{NeedleTask::kMultiValue, "multi-value",
                   "a needle of the same key at every depth; asked for all values at once"},
};
// Throws kInvalidArgument naming those there are.
NeedleTask ParseNeedleTask(std::string_view name);
std::string_view NameOf(NeedleTask task);

// That a model may generate beyond the length of the right reply.
inline constexpr int kNeedleSpareTokens = 8;

struct NeedleAnswer {
  int depth;          // index
  std::string value;  // its digits
  int begin, end;     // their tokens in the reply
};

struct NeedleQuestion {
  std::vector<TokenId> text;
  std::vector<TokenId> reply;  // what follows if the model knows
  std::vector<NeedleAnswer> answers;
};

struct NeedlePrompt {
  std::vector<TokenId> haystack;  // needles included, whole pages
  std::vector<NeedleQuestion> questions;
};

// Haystacks are pieces of a text, which begins again at its end where it is too short. The same
// prompts come from the same text, depths and seed.
class NeedleMaker {
 public:
  // Throws kInvalidArgument if the text has no tokens or there are more depths than a page has room
  // for answers.
  NeedleMaker(const Tokenizer& tokenizer, std::string_view text, int depths, uint64_t seed);

  // Haystack, question and what is generated are at most `context` tokens together. Throws
  // kInvalidArgument if that is too short.
  std::vector<NeedlePrompt> Prompts(NeedleTask task, int context, int trial) const;

  int depths() const { return depths_; }
  int64_t text_tokens() const { return static_cast<int64_t>(text_.size()); }
  // Part of the haystack before the needle.
  double Depth(int index) const { return (index + 0.5) / depths_; }

 private:
  struct Needle {
    int depth;
    std::vector<TokenId> tokens;
  };
  std::vector<TokenId> Haystack(int tokens, size_t from, const std::vector<Needle>& needles) const;
  size_t SentenceEnd(size_t from, size_t target, size_t least, size_t most) const;
  // The reply is the values one after the other.
  NeedleQuestion Question(const std::string& text, std::vector<NeedleAnswer> answers) const;

  const Tokenizer& tokenizer_;
  std::vector<TokenId> text_;
  std::vector<bool> ends_;  // of tokens: a sentence or line is over
  int depths_;
  uint64_t seed_;
};

}  // namespace tq::lab
