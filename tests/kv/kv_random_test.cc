// SPDX-License-Identifier: Apache-2.0
// Random histories of a cache against pages built from scratch: whatever was appended in whatever
// chunks, forked, shortened and freed, every query sees exactly the bytes that its position and the
// tokens before it ask for.
#include <gmock/gmock.h>

#include "tests/support/kv_driver.h"
#include "turboquant/base/error.h"

namespace tq {
namespace {

using enum Codec;

struct Scenario {
  std::string name;
  KvGeometry geometry;
  CachePolicy policy;
};

std::vector<Scenario> Scenarios() {
  std::vector<Scenario> scenarios = {
      {"turbo3", TestGeometry({0, 0}, 2), TestPolicy({kTurbo3, kTurbo3}, {kTurbo3, kTurbo3})},
      {"mixed", TestGeometry({0, 0, 0}),
       TestPolicy({kTurbo8, kTurbo8, kF16}, {kTurbo2, kTurbo8, kTurbo4})},
      {"sliding", TestGeometry({700, 0, 700, 100}),
       TestPolicy(std::vector<Codec>(4, kTurbo4), std::vector<Codec>(4, kTurbo3))},
      {"rows", TestGeometry({0, 300}, 1, 32), TestPolicy({kQ8_0, kF16}, {kQ4_0, kF32})},
      {"no window", TestGeometry({0, 300}), TestPolicy({kTurbo2, kTurbo2}, {kTurbo2, kTurbo4})},
      {"wide window", TestGeometry({0, 600}), TestPolicy({kTurbo3, kTurbo4}, {kTurbo2, kTurbo4})},
      {"ages", TestGeometry({0, 0}, 2), TestPolicy({kTurbo4, kTurbo3}, {kTurbo4, kTurbo2})},
      {"ages, mixed", TestGeometry({0, 900, 0, 700}),
       TestPolicy({kTurbo8, kTurbo4, kF16, kTurbo8}, {kTurbo8, kTurbo4Tcq, kTurbo4, kTurbo8})},
      {"ages, no window", TestGeometry({0, 300}), TestPolicy({kTurbo4, kTurbo3}, {kTurbo3, kF16})},
  };
  scenarios[4].policy.window = 0;
  scenarios[4].policy.rollback = 0;
  scenarios[5].policy.window = 300;
  scenarios[5].policy.sink_pages = 2;
  scenarios[5].policy.rollback = 200;
  scenarios[6].policy.ages = {
      {256, kTurbo3, kTurbo3}, {300, kTurbo2, kTurbo3}, {513, kTurbo2, kTurbo2}};
  scenarios[7].policy.ages = {
      {200, kTurbo4, kTurbo3}, {384, kTurbo3, kTurbo2}, {640, kTurbo2, kTurbo2}};
  scenarios[7].policy.rollback = 150;
  scenarios[8].policy.ages = {{1, kTurbo2, kTurbo2}};
  scenarios[8].policy.window = scenarios[8].policy.rollback = 0;
  return scenarios;
}

class KvHistory : public testing::TestWithParam<size_t> {};

TEST_P(KvHistory, TokenByTokenEqualsAnyChunking) {
  const Scenario scenario = Scenarios()[GetParam()];
  const TokenList tokens = TestTokens(900, 11);
  auto cache = MakeTestCache(scenario.geometry, scenario.policy);
  KvDriver driver(*cache);
  Random random(5);
  for (const int largest : {1, 7, 130, 513, 900}) {
    const SequenceId id = driver.New();
    for (size_t done = 0; done < tokens.size();) {
      const size_t n =
          std::min<size_t>(largest == 1 ? 1 : 1 + random.Next() % static_cast<uint64_t>(largest),
                           tokens.size() - done);
      const auto begin = tokens.begin() + static_cast<int64_t>(done);
      driver.Append(id, {begin, begin + static_cast<int64_t>(n)}, done % 64 == 0 || n > 1);
      done += n;
    }
    driver.CheckNextQuery(id);
    if (HasFatalFailure()) return;
  }
}

TEST_P(KvHistory, AnyHistoryShowsTheSameBytes) {
  const Scenario scenario = Scenarios()[GetParam()];
  Random random(100 + GetParam());
  const auto pick = [&](uint64_t n) { return static_cast<int64_t>(random.Next() % n); };
  for (int history = 0; history < 10; ++history) {
    auto cache = MakeTestCache(scenario.geometry, scenario.policy);
    KvDriver driver(*cache);
    std::vector<SequenceId> ids = {driver.New()};
    std::map<SequenceId, int64_t> floor;  // going back to here is promised to be exact
    for (int step = 0; step < 120 && !HasFatalFailure(); ++step) {
      const SequenceId id = ids[static_cast<size_t>(pick(ids.size()))];
      const int64_t length = cache->Length(id);
      switch (pick(10)) {
        case 0:
          if (ids.size() < 4) {
            ids.push_back(driver.Fork(id));
            floor[ids.back()] = floor[id];
          }
          break;
        case 1:
          if (ids.size() < 4) {
            ids.push_back(driver.New());
            floor[ids.back()] = 0;
          }
          break;
        case 2:
          if (ids.size() > 1) {
            driver.Free(id);
            std::erase(ids, id);
          }
          break;
        case 3:
        case 4: {  // shorten, by little or by much
          const int64_t to =
              pick(2) == 0
                  ? pick(static_cast<uint64_t>(length) + 1)
                  : length -
                        std::min(length, pick(static_cast<uint64_t>(scenario.policy.rollback) + 1));
          const int64_t kept = cache->Truncate(id, to);
          ASSERT_LE(kept, to);
          if (to >= floor[id]) {
            ASSERT_EQ(kept, to);
          }
          TokenList& tokens = driver.tokens()[id];
          tokens.resize(static_cast<size_t>(to));
          if (kept == to) {
            driver.CheckNextQuery(id);
            break;
          }
          const TokenList again(tokens.begin() + kept, tokens.end());
          tokens.resize(static_cast<size_t>(kept));
          driver.Append(id, again);
          floor[id] = to;
          break;
        }
        default: {
          std::vector<KvDriver::Part> batch;
          for (const SequenceId part : ids) {
            if (part != id && pick(3) != 0) continue;
            const int64_t room = 1100 - cache->Length(part);
            if (room <= 0) continue;
            const int64_t n = std::min(
                room, 1 + pick(std::array<uint64_t, 3>{1, 40, 400}[static_cast<size_t>(pick(3))]));
            batch.push_back({part, TestTokens(n, random.Next())});
          }
          if (!batch.empty()) driver.Append(batch);
          for (const KvDriver::Part& part : batch) {
            floor[part.sequence] = std::max(
                floor[part.sequence], cache->Length(part.sequence) - scenario.policy.rollback);
          }
        }
      }
    }
    for (const SequenceId id : ids) driver.CheckNextQuery(id);
    for (const SequenceId id : ids) driver.Free(id);
    EXPECT_EQ(cache->Memory().committed_bytes, 0u);
    EXPECT_EQ(cache->Memory().used_bytes, 0u);
  }
}

INSTANTIATE_TEST_SUITE_P(Policies, KvHistory, testing::Range<size_t>(0, 9));

}  // namespace
}  // namespace tq
