// SPDX-License-Identifier: Apache-2.0
// Pages that age: their bookkeeping, counted by hand and added up. That the bytes are right
// whatever happens is kv_random_test's to show.
#include <gmock/gmock.h>

#include <map>
#include <set>

#include "tests/support/kv_driver.h"
#include "turboquant/base/error.h"

namespace tq {
namespace {

using enum Codec;
using testing::HasSubstr;

// One head of 64, counted by hand: r 128 | 2 tiles of 64 tokens with (bits K + bits V) x 512 bytes
// of codes and 256 of scales, in units of 256.
constexpr uint64_t BlockBytes(int bits_k, int bits_v) {
  const uint64_t bytes = 128 + 2 * static_cast<uint64_t>((bits_k + bits_v) * 512 + 256);
  return (bytes + 255) / 256 * 256;
}

CachePolicy AgingPolicy() {
  CachePolicy policy = TestPolicy({kTurbo4}, {kTurbo4});
  policy.ages = {{300, kTurbo3, kTurbo3}, {512, kTurbo3, kTurbo2}};  // from 3 and from 4 pages on
  return policy;
}

void Step(KvCache& cache, SequenceId id, int tokens) {
  const AppendRequest request{id, tokens};
  cache.Commit(cache.PlanAppend({&request, 1}));
}

// Blocks that views of these sequences show, each once.
uint64_t BytesOfViews(const KvCache& cache, const std::vector<SequenceId>& ids) {
  std::map<uint32_t, uint64_t> blocks;
  for (const SequenceId id : ids) {
    const KvLayerView view = cache.View(id, 0);
    for (int form = 0; form < 2 + view.num_aged; ++form) {
      for (int page = 0; page < view.num_pages; ++page) {
        if (view.PageId(form, page) == kNoPage) continue;
        const uint64_t bytes = (view.Layout(form).bytes() + 255u) / 256 * 256;
        blocks[view.PageId(form, page)] = bytes;
      }
    }
  }
  uint64_t sum = 0, end = 0;
  for (const auto& [id, bytes] : blocks) {
    EXPECT_GE(id * kPageIdUnit, end) << "blocks overlap";
    end = id * kPageIdUnit + bytes;
    sum += bytes;
  }
  return sum;
}

TEST(KvAges, FormsAreAFunctionOfPositions) {
  auto cache = MakeTestCache(TestGeometry({0}), AgingPolicy());
  const SequenceId id = cache->NewSequence();
  Step(*cache, id, 1);
  const KvLayerView view = cache->View(id, 0);
  ASSERT_EQ(view.num_aged, 2);
  for (int64_t position = 0; position < 1500; ++position) {
    for (int page = 0; page <= position / 128; ++page) {
      const auto between = position / 128 - 1 - page;  // whole pages
      const int expected = page == 0 || between < 1 ? kOpenForm
                           : between < 3            ? kSealedForm
                           : between < 4            ? 2
                                                    : 3;
      ASSERT_EQ(view.FormAt(page, position), expected) << page << " at " << position;
    }
  }
}

TEST(KvAges, MemoryIsCountedExactly) {
  auto cache = MakeTestCache(TestGeometry({0}), AgingPolicy());
  const SequenceId id = cache->NewSequence();
  Step(*cache, id, 1500);
  // 12 pages; the next query (1500, b = 11) reads 1 .. 6 in the last form, 7 as turbo3, 8 and 9 as
  // turbo4. Going back 64 needs no more (b = 11 at 1436). Of each form one page is on its way.
  EXPECT_EQ(cache->Memory().open_bytes, 3 * BlockBytes(8, 8));  // 0, 10, 11
  EXPECT_EQ(cache->Memory().sealed_bytes - cache->Memory().aged_bytes,
            3 * BlockBytes(4, 4));  // 8, 9, 10
  EXPECT_EQ(cache->Memory().aged_bytes,
            2 * BlockBytes(3, 3) + 7 * BlockBytes(3, 2));  // 7 and 8; 1 .. 7
  EXPECT_EQ(cache->Memory().used_bytes, cache->Memory().open_bytes + cache->Memory().sealed_bytes);
  cache->FreeSequence(id);
  EXPECT_EQ(cache->Memory().used_bytes, 0u);
  EXPECT_EQ(cache->Memory().committed_bytes, 0u);
}

TEST(KvAges, BytesReportedAreBytesHeld) {
  auto cache = MakeTestCache(TestGeometry({0}), AgingPolicy());
  const SequenceId a = cache->NewSequence();
  Random random(3);
  std::vector<SequenceId> ids = {a};
  for (int step = 0; step < 400; ++step) {
    const SequenceId id = ids[random.Next() % ids.size()];
    if (random.Next() % 16 == 0 && ids.size() < 4) ids.push_back(cache->Fork(id));
    if (random.Next() % 24 == 0) {
      cache->Truncate(id, static_cast<int64_t>(random.Next() % 400 + 1) * cache->Length(id) / 400);
    }
    Step(*cache, id, static_cast<int>(1 + random.Next() % 150));
    // Forms begun by one fork are held by its record, and shown where they are due: in full views.
    const KvMemory memory = cache->Memory();
    ASSERT_LE(BytesOfViews(*cache, ids), memory.used_bytes) << step;
    ASSERT_LE(memory.used_bytes, memory.committed_bytes) << step;
    if (ids.size() == 1) {
      ASSERT_EQ(BytesOfViews(*cache, ids), memory.used_bytes) << step;
    }
  }
  ASSERT_GT(ids.size(), 1u);
  for (const SequenceId id : ids) cache->FreeSequence(id);
  EXPECT_EQ(cache->Memory().committed_bytes, 0u);
}

TEST(KvAges, TranscodingIsSpreadEvenly) {
  constexpr int kLayers = 30, kHeads = 3, kTotal = kLayers * kHeads * 2;
  CachePolicy policy =
      TestPolicy(std::vector<Codec>(kLayers, kTurbo4), std::vector<Codec>(kLayers, kTurbo3));
  policy.ages = {{300, kTurbo3, kTurbo3}, {600, kTurbo2, kTurbo2}};
  auto cache = MakeTestCache(TestGeometry(std::vector<int>(kLayers, 0), kHeads), policy);
  const SequenceId id = cache->NewSequence();
  Step(*cache, id, 1000);
  std::map<int, int> of_form;
  for (int i = 0; i < 512; ++i) {
    const AppendRequest request{id, 1};
    const AppendPlan plan = cache->PlanAppend({&request, 1});
    cache->Commit(plan);
    std::map<int, int> step;
    for (const SealTask& task : plan.seal_early) ++step[task.form];
    for (const auto& [form, tasks] : step) {
      EXPECT_LE(tasks, (kTotal + 127) / 128) << "form " << form << ", step " << i;
      of_form[form] += tasks;
    }
    EXPECT_TRUE(plan.seal_after_encode.empty());
  }
  ASSERT_EQ(of_form.size(), 3u);
  for (const auto& [form, tasks] : of_form) EXPECT_NEAR(tasks, 4 * kTotal, kTotal / 8) << form;
}

TEST(KvAges, TruncationNeverTakesAgeBack) {
  auto cache = MakeTestCache(TestGeometry({0}), AgingPolicy());
  KvDriver driver(*cache);
  const SequenceId id = driver.New();
  driver.Append(id, TestTokens(1500, 1));
  EXPECT_EQ(cache->Truncate(id, 1436), 1436);  // within the rollback range: exact
  driver.tokens()[id].resize(1436);
  driver.CheckNextQuery(id);
  driver.Append(id, TestTokens(64, 2));
  // Far back: whole pages before the window stay, in the forms that they have come to.
  EXPECT_EQ(cache->Truncate(id, 900), (900 / 128 - 1) * 128);
  driver.tokens()[id].resize(768);
  driver.Append(id, TestTokens(132, 3));
  const KvLayerView view = cache->View(id, 0);
  EXPECT_EQ(view.FormAt(3, 900), 3);  // sealed by its age
  EXPECT_EQ(view.PageId(kSealedForm, 3), kNoPage);
  driver.CheckNextQuery(id);
  // From the length that was asked for on, rolling back is exact again.
  driver.Append(id, TestTokens(30, 4));
  EXPECT_EQ(cache->Truncate(id, 900), 900);
  EXPECT_LT(cache->Truncate(id, 899), 899);
}

TEST(KvAges, ForksOfDifferentLengthsReadTheirOwnForms) {
  auto cache = MakeTestCache(TestGeometry({0}), AgingPolicy());
  KvDriver driver(*cache);
  const SequenceId a = driver.New();
  driver.Append(a, TestTokens(520, 1));
  const SequenceId b = driver.Fork(a);
  driver.Append(a, TestTokens(900, 2));
  EXPECT_EQ(cache->View(a, 0).FormAt(2, 1420), 3);
  EXPECT_EQ(cache->View(b, 0).FormAt(2, 520), kSealedForm);
  driver.CheckNextQuery(a);
  driver.CheckNextQuery(b);
  driver.Append(b, TestTokens(500, 3));  // takes over what a has sealed
  driver.Free(a);
  driver.CheckNextQuery(b);
  EXPECT_EQ(BytesOfViews(*cache, {b}), cache->Memory().used_bytes);
}

TEST(KvAges, BytesForContextIsEnoughAndTight) {
  for (const bool eight_bits : {false, true}) {
    CachePolicy policy = eight_bits ? TestPolicy({kTurbo8, kTurbo8}, {kTurbo8, kTurbo8})
                                    : TestPolicy({kTurbo4, kTurbo3}, {kTurbo4, kTurbo2});
    policy.ages = {{1000, kTurbo3, kTurbo3}, {5000, kTurbo2, kTurbo2}};
    const KvGeometry geometry = TestGeometry({0, 3000}, 4);
    for (const int64_t tokens : {700, 2000, 5300, 20000}) {
      for (const int chunk : {1, 100, 512}) {
        const uint64_t budget = KvCache::BytesForContext(geometry, policy, tokens, chunk);
        auto cache = MakeTestCache(geometry, policy, budget);
        const SequenceId id = cache->NewSequence();
        uint64_t most = 0;
        for (int64_t left = tokens; left > 0; left -= chunk) {
          Step(*cache, id, static_cast<int>(std::min<int64_t>(left, chunk)));
          most = std::max(most, cache->Memory().committed_bytes);
        }
        EXPECT_LE(budget, most + 6 * PageArena::kSlabBytes) << tokens << " in chunks of " << chunk;
      }
    }
  }
}

TEST(KvAges, BitsPerValueGoByTheirShare) {
  const KvGeometry geometry = TestGeometry({0, 0}, 2, 128);
  CachePolicy policy = TestPolicy({kTurbo4, kTurbo4}, {kTurbo4, kTurbo4});
  const double four = KvCache::BitsPerValue(geometry, policy);
  policy.ages = {{4096, kTurbo2, kTurbo2}};
  EXPECT_DOUBLE_EQ(KvCache::BitsPerValue(geometry, policy, 4096), four);
  EXPECT_NEAR(KvCache::BitsPerValue(geometry, policy), four - 2, 0.001);
  EXPECT_NEAR(KvCache::BitsPerValue(geometry, policy, 16384), four - 1.5, 0.001);
  policy.k = policy.v = {kTurbo8, kTurbo8};
  EXPECT_NEAR(KvCache::BitsPerValue(geometry, policy, 16384), four - 1.5 + 1, 0.001);
}

TEST(KvAges, PoliciesThatCannotBeAreRefused) {
  const auto message = [](std::vector<AgeStep> ages, int window) -> std::string {
    CachePolicy policy = TestPolicy({kTurbo4}, {kTurbo4});
    policy.ages = std::move(ages);
    policy.window = window;
    try {
      MakeTestCache(TestGeometry({0}), policy);
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
      return error.what();
    }
    return "accepted";
  };
  EXPECT_THAT(message({{100, kTurbo2, kTurbo2}}, 128), HasSubstr("cache age 100"));
  EXPECT_THAT(message({{200, kTurbo2, kTurbo2}}, 256), HasSubstr("end at 256 tokens"));
  EXPECT_THAT(message({{200, kTurbo3, kTurbo3}, {256, kTurbo2, kTurbo2}}, 0),
              HasSubstr("cache age 256"));
  EXPECT_THAT(message({{200, kF16, kTurbo2}}, 0), HasSubstr("cannot age to f16"));
  EXPECT_THAT(message(std::vector<AgeStep>(kMaxAges + 1), 0), HasSubstr("5 ages"));
}

// Layers whose pages change at other ages are groups of their own; what changes nothing is no form.
TEST(KvAges, LayersHaveTheFormsThatTheyNeed) {
  CachePolicy policy = TestPolicy({kTurbo4, kTurbo3, kTurbo2, kF16, kTurbo8, kTurbo4},
                                  {kTurbo4, kTurbo3, kTurbo2, kF16, kTurbo8, kTurbo4});
  policy.ages = {{300, kTurbo3, kTurbo3}, {512, kTurbo2, kTurbo2}};
  auto cache = MakeTestCache(TestGeometry({0, 0, 0, 0, 0, 700}), policy);
  const SequenceId id = cache->NewSequence();
  Step(*cache, id, 1000);
  const int aged[] = {2, 1, 0, 0, 1, 0};
  for (int layer = 0; layer < 6; ++layer) {
    const KvLayerView view = cache->View(id, layer);
    EXPECT_EQ(view.num_aged, aged[layer]) << layer;
    EXPECT_EQ(view.visibility.seals, layer != 3) << layer;
  }
  EXPECT_EQ(cache->View(id, 4).visibility.window_pages, 3);  // turbo8 until its first age
  EXPECT_EQ(KvCache::FinalKeyCodecs(cache->geometry(), policy),
            (std::vector<Codec>{kTurbo2, kTurbo2, kTurbo2, kF16, kTurbo2, kTurbo2}));
  EXPECT_EQ(KvCache::FinalKeyCodecs(TestGeometry({0, 0, 0, 0, 0, 513}), policy).back(), kTurbo8);
  // Sliding: 8 bits for four times the window, then what either age has come to by then.
  EXPECT_EQ(cache->View(id, 5).visibility.window_pages, 4);
  EXPECT_EQ(cache->View(id, 5).sealed.k, kTurbo2);
}

}  // namespace
}  // namespace tq
