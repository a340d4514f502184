// SPDX-License-Identifier: Apache-2.0
// Stop strings in a stream that comes in pieces: over token and character boundaries, partly
// matched, overlapping.
#include <gtest/gtest.h>

#include "turboquant/base/random.h"
#include "turboquant/engine/stop_matcher.h"

namespace tq {
namespace {

struct Outcome {
  std::string text;
  bool stopped;
  bool operator==(const Outcome&) const = default;
};

std::ostream& operator<<(std::ostream& out, const Outcome& o) {
  return out << '"' << o.text << '"' << (o.stopped ? " stopped" : "");
}

Outcome Feed(const std::vector<std::string>& stops, const std::vector<std::string>& pieces) {
  StopMatcher matcher(stops);
  std::string text;
  for (const std::string& piece : pieces) text += matcher.Push(piece);
  text += matcher.Flush();
  return {text, matcher.stopped()};
}

TEST(StopMatcher, CutsBeforeTheStop) {
  EXPECT_EQ(Feed({"END"}, {"one END two"}), (Outcome{"one ", true}));
  EXPECT_EQ(Feed({"END"}, {"one E", "N", "D two"}), (Outcome{"one ", true}));
  EXPECT_EQ(Feed({"END"}, {"one EN", "d"}), (Outcome{"one ENd", false}));
  EXPECT_EQ(Feed({"END"}, {"one", " EN"}), (Outcome{"one EN", false}));
  EXPECT_EQ(Feed({}, {"one", " END"}), (Outcome{"one END", false}));
  EXPECT_EQ(Feed({"", "x"}, {"one", "xy"}), (Outcome{"one", true}));  // the empty one means nothing
}

TEST(StopMatcher, HoldsBackOnlyWhatMightBecomeAStop) {
  StopMatcher matcher({"<|im_end|>", "\n\n"});
  EXPECT_EQ(matcher.Push("Hi <"), "Hi ");
  EXPECT_EQ(matcher.Push("|im"), "");
  EXPECT_EQ(matcher.Push("age|>\n"), "<|image|>");
  EXPECT_EQ(matcher.Push("x"), "\nx");
  EXPECT_EQ(matcher.Push("<|im_end|"), "");
  EXPECT_FALSE(matcher.stopped());
  EXPECT_EQ(matcher.Push("> more"), "");
  EXPECT_TRUE(matcher.stopped());
  EXPECT_EQ(matcher.Push("and more"), "");
  EXPECT_EQ(matcher.Flush(), "");
}

TEST(StopMatcher, BeginningsThatOverlap) {
  EXPECT_EQ(Feed({"aab"}, {"a", "a", "a", "b"}), (Outcome{"a", true}));
  EXPECT_EQ(Feed({"abab"}, {"aba", "cabab"}), (Outcome{"abac", true}));
  EXPECT_EQ(Feed({"bc", "abcd"}, {"abcd"}), (Outcome{"a", true}));  // bc is complete first
  EXPECT_EQ(Feed({"c", "abc"}, {"xabc"}), (Outcome{"x", true}));    // of both the longer
}

TEST(StopMatcher, CutWithinACharacter) {
  const std::string stop = "\xE2\x82\xAC";  // a euro sign, three bytes
  EXPECT_EQ(Feed({stop}, {"5 \xE2", "\x82", "\xAC!"}), (Outcome{"5 ", true}));
  EXPECT_EQ(Feed({stop}, {"5 \xE2", "\x82", "\xAD!"}), (Outcome{"5 \xE2\x82\xAD!", false}));
}

// However a text is cut, text and stop are the same: those of a plain search byte by byte.
TEST(StopMatcher, CutsDoNotMatter) {
  Random random(4);
  const auto letters = [&](size_t length) {
    std::string text;
    for (size_t i = 0; i < length; ++i) text += static_cast<char>('a' + random.Next() % 2);
    return text;
  };
  int stopped = 0;
  for (int repeat = 0; repeat < 3000; ++repeat) {
    std::vector<std::string> stops;
    for (size_t i = 0; i <= random.Next() % 3; ++i) stops.push_back(letters(1 + random.Next() % 7));
    const std::string text = letters(random.Next() % 30);
    Outcome expected{text, false};
    for (size_t end = 1; end <= text.size() && !expected.stopped; ++end) {
      for (const std::string& stop : stops) {
        const std::string head = text.substr(0, end);
        if (!head.ends_with(stop) || head.size() - stop.size() >= expected.text.size()) continue;
        expected = {head.substr(0, end - stop.size()), true};
      }
    }
    stopped += expected.stopped;
    std::vector<std::string> pieces;
    for (size_t i = 0; i < text.size();) {
      pieces.push_back(text.substr(i, random.Next() % 5));
      i += pieces.back().size();
    }
    ASSERT_EQ(Feed(stops, pieces), expected) << text;
  }
  EXPECT_GT(stopped, 500);
  EXPECT_LT(stopped, 2900);
}

}  // namespace
}  // namespace tq
