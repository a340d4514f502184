// SPDX-License-Identifier: Apache-2.0
// The main findings hold in direction on SmolLM2, measured by `lab run --quick`: centring, first
// and newest tokens matter, a trellis beats levels, QJL does not help.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <map>

#include "apps/lab_record.h"
#include "tests/apps/cli_process.h"

namespace tq::test {
namespace {

constexpr int kMinutes = 10;  // it takes one or two where nothing else runs

TEST(LabFindingsTest, DirectionsHold) {
  const char* models = std::getenv("TQ_MODELS");
  if (models == nullptr) GTEST_SKIP() << "TQ_MODELS does not name the models' folder";
  const std::string file = (CliFolder() / "findings.jsonl").string();
  const CliResult result =
      RunCli({"lab", "run", "f0f034", "c9ca34", "e66662", "d4375d", "--quick", "-m",
              (std::filesystem::path(models) / "smollm2.gguf").string(), "-o", file},
             {.seconds = kMinutes * 60});
  ASSERT_EQ(result.status, 0) << result.err;

  std::map<std::string, lab::Estimate> gains;  // of the claims that this build can judge
  for (const app::LabRecord& record : app::ReadLabFile(file)) {
    for (const app::MeasuredClaim& claim : record.claims) {
      if (claim.verdict) gains[claim.a + " : " + claim.b] = claim.gain;
    }
  }
  const auto expect_better = [&](const std::string& a, const std::string& b) {
    const auto gain = gains.find(a + " : " + b);
    ASSERT_NE(gain, gains.end()) << a << " : " << b;
    EXPECT_GT(gain->second.value, 2 * gain->second.error) << gain->first;
  };
  expect_better("turbo3+simulated", "turbo3+no-centring");
  expect_better("turbo3+tokens+sinks=4", "turbo3+tokens+sinks=0");
  expect_better("turbo3+tokens", "turbo3+tokens+window=0");
  expect_better("turbo3_tcq", "turbo3");
  expect_better("turbo2_tcq", "turbo2");
  if (gains.contains("turbo4+bare : turbo3+bare+qjl"))
    expect_better("turbo4+bare", "turbo3+bare+qjl");
}

}  // namespace
}  // namespace tq::test
