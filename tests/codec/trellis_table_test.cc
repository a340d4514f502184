// SPDX-License-Identifier: Apache-2.0
// The committed table is what the tool makes. Half a minute.
#include "tools/trellis_table.h"

#include <gtest/gtest.h>

#include <fstream>
#include <sstream>
#include <string>

namespace tq {
namespace {

TEST(TrellisTable, IsWhatTheToolMakes) {
  std::ifstream file(TQ_TABLES "/trellises.inc");
  std::stringstream text;
  text << file.rdbuf();
  EXPECT_EQ(text.str(), MakeTrellisTable());
}

}  // namespace
}  // namespace tq
