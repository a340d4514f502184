// SPDX-License-Identifier: Apache-2.0
// What the command takes at its peak when it loads a model for the first time, calibrating, and the
// next time.
#include <gtest/gtest.h>

#include "tests/apps/cli_process.h"
#include "tests/support/loaded_model.h"

namespace tq::test {
namespace {

TEST(MemoryTest, LoadingTakesLessThanOneAndAHalfTimesTheFile) {
  for (const char* model : {"smollm2.gguf", "gemma3-270m.gguf"}) {
    const auto path = EnvFile("TQ_MODELS", model);
    if (!path) GTEST_SKIP() << "TQ_MODELS names no folder with " << model;
    const auto file_bytes = static_cast<double>(std::filesystem::file_size(*path));
    const auto load = [&] {
      return RunCli({"run", "--device", "cpu", "-t", "2", "-m", *path, "-n", "8", "-p", "hi"});
    };
    const CliResult first = load(), second = load();
    ASSERT_EQ(first.status, 0) << first.err;
    EXPECT_NE(first.err.find("calibrated in"), std::string::npos) << first.err;
    EXPECT_EQ(second.err.find("calibrated in"), std::string::npos) << second.err;
    EXPECT_LT(static_cast<double>(first.peak_bytes), 1.5 * file_bytes) << model;
    EXPECT_LT(static_cast<double>(second.peak_bytes), 1.35 * file_bytes) << model;
  }
}

}  // namespace
}  // namespace tq::test
