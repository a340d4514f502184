// SPDX-License-Identifier: Apache-2.0
// Small helpers of the command line: UTF-8 check, tables, flag spellings.
#include <gtest/gtest.h>

#include <array>

#include "apps/argv.h"
#include "apps/progress.h"
#include "apps/table.h"
#include "apps/utf8.h"
#include "turboquant/base/error.h"

namespace tq::app {
namespace {

TEST(Utf8Test, AcceptsEveryLength) {
  EXPECT_FALSE(FindInvalidUtf8(""));
  EXPECT_FALSE(FindInvalidUtf8(
      "a\x7f\xC2\x80\xDF\xBF\xE0\xA0\x80\xED\x9F\xBF\xEF\xBF\xBF\xF0\x90\x80\x80\xF4\x8F\xBF\xBF"));
}

TEST(Utf8Test, FindsTheFirstWrongByte) {
  EXPECT_EQ(FindInvalidUtf8("ab\x80"), 2u);            // continuation without a lead
  EXPECT_EQ(FindInvalidUtf8("a\xC3"), 1u);             // cut off
  EXPECT_EQ(FindInvalidUtf8("\xC0\xAF"), 0u);          // overlong
  EXPECT_EQ(FindInvalidUtf8("\xE0\x9F\xBF"), 0u);      // overlong
  EXPECT_EQ(FindInvalidUtf8("xyz\xED\xA0\x80"), 3u);   // surrogate
  EXPECT_EQ(FindInvalidUtf8("\xF4\x90\x80\x80"), 0u);  // above U+10FFFF
  EXPECT_EQ(FindInvalidUtf8("\xF0\x80\x80\x80"), 0u);  // overlong
  EXPECT_EQ(FindInvalidUtf8("\xFF"), 0u);
}

TEST(Utf8Test, SaysWhatAndWhere) {
  try {
    RequireUtf8("ok\xFF", "the prompt");
    FAIL();
  } catch (const Error& error) {
    EXPECT_STREQ(error.what(),
                 "the prompt is not valid UTF-8: byte 0xff at offset 2; convert it to UTF-8 first");
  }
}

TEST(TableTest, AlignsAlsoWithSignsOfSeveralBytes) {
  Table table({"name", "value"});
  table.AddRow({"a", "1.0 ± 0.1"});
  table.AddRow({"long name", "2"});
  EXPECT_EQ(table.Text(), "name           value\na          1.0 ± 0.1\nlong name          2\n");
}

TEST(ArgvTest, ExpandsSpellingsOfSeveralLetters) {
  std::array<char*, 6> argv = {const_cast<char*>("turboquant"), const_cast<char*>("run"),
                               const_cast<char*>("-ctk"),       const_cast<char*>("turbo3"),
                               const_cast<char*>("-c"),         const_cast<char*>("99")};
  EXPECT_EQ(ExpandShortFlags(argv),
            (std::vector<std::string>{"run", "--cache-type-k", "turbo3", "-c", "99"}));
}

TEST(FormatTest, BytesAndSeconds) {
  EXPECT_EQ(FormatBytes(512), "512 B");
  EXPECT_EQ(FormatBytes(98362432), "93.8 MiB");
  EXPECT_EQ(FormatSeconds(7.4), "7 s");
  EXPECT_EQ(FormatSeconds(125), "2 min 05 s");
}

}  // namespace
}  // namespace tq::app
