// SPDX-License-Identifier: Apache-2.0
#include "turboquant/kv/kv_cache.h"

#include <gmock/gmock.h>

#include "tests/support/kv_driver.h"
#include "turboquant/base/error.h"

namespace tq {
namespace {

using enum Codec;
using testing::HasSubstr;

// One full-attention layer of turbo3 with one head of 64: open and sealed block sizes counted by
// hand. turbo8, 64 tokens per tile: r 128 | 2 x (64*64 K + 64*64 V + 256 scales) = 17024 -> 17152
// in units of 256. turbo3: r 128 | 2 x (1536 K + 1536 V + 256 scales) = 6784 -> 6912.
constexpr uint64_t kOpen = 17152, kSealed = 6912;

std::unique_ptr<KvCache> OneLayer(int window = 128, uint64_t budget = 0) {
  CachePolicy policy = TestPolicy({kTurbo3}, {kTurbo3});
  policy.window = window;
  return MakeTestCache(TestGeometry({0}), policy, budget);
}

// Plans and commits without encoding: for tests of bookkeeping.
AppendPlan Step(KvCache& cache, SequenceId id, int tokens) {
  const AppendRequest request{id, tokens};
  AppendPlan plan = cache.PlanAppend({&request, 1});
  cache.Commit(plan);
  return plan;
}
size_t Tasks(const AppendPlan& plan) {
  return plan.seal_early.size() + plan.seal_after_encode.size();
}

TEST(KvCache, MemoryIsCountedExactly) {
  auto cache = OneLayer();
  const SequenceId id = cache->NewSequence();
  EXPECT_EQ(cache->Memory().used_bytes, 0u);
  Step(*cache, id, 1);
  EXPECT_EQ(cache->Memory().open_bytes, kOpen);
  EXPECT_EQ(cache->Memory().sealed_bytes, 0u);
  EXPECT_EQ(cache->Memory().committed_bytes, PageArena::kSlabBytes);
  EXPECT_DOUBLE_EQ(cache->Memory().bits_per_value,
                   kOpen * 8 / 128.0);  // one token: 64 keys and 64 values
  Step(*cache, id, 1000 - 1);
  // 1000 tokens: 8 pages. Next query 1000: sealed pages 1..5 (b = 7). Rollback 64 keeps page 5's
  // open form (visible sealed from 896 = 7 * 128; 1000 - 64 = 936 is behind it): so not. Page 6
  // (full at 896) has its share of sealing.
  EXPECT_EQ(cache->Memory().open_bytes, 3 * kOpen);      // 0, 6, 7
  EXPECT_EQ(cache->Memory().sealed_bytes, 6 * kSealed);  // 1..5 and 6 begun
  EXPECT_EQ(cache->Memory().used_bytes, 3 * kOpen + 6 * kSealed);
  EXPECT_DOUBLE_EQ(cache->Memory().bits_per_value, (3 * kOpen + 6 * kSealed) * 8 / 128000.0);
  cache->FreeSequence(id);
  EXPECT_EQ(cache->Memory().used_bytes, 0u);
  EXPECT_EQ(cache->Memory().committed_bytes, 0u);
}

TEST(KvCache, OpenFormsLiveForTheRollbackRange) {
  auto cache = OneLayer();
  const SequenceId id = cache->NewSequence();
  Step(*cache, id, 384);  // page 1 is first read sealed at 384
  EXPECT_EQ(cache->View(id, 0).open_pages[1] == kNoPage, false);
  for (int length = 385; length < 384 + 64; ++length) Step(*cache, id, 1);
  EXPECT_NE(cache->View(id, 0).open_pages[1], kNoPage);
  Step(*cache, id, 1);  // 448: one can go back to 384 at most, where it is read sealed
  EXPECT_EQ(cache->View(id, 0).open_pages[1], kNoPage);
  EXPECT_NE(cache->View(id, 0).open_pages[0], kNoPage);
  EXPECT_EQ(cache->Truncate(id, 384), 384);
  Step(*cache, id, 64);
  EXPECT_EQ(cache->Truncate(id, 383), 128);  // page 1's 8-bit form is gone
}

TEST(KvCache, VisibilityIsAFunctionOfPositions) {
  for (const int window : {0, 1, 128, 129, 512}) {
    auto cache = OneLayer(window);
    const SequenceId id = cache->NewSequence();
    Step(*cache, id, 1);
    const Visibility visibility = cache->View(id, 0).visibility;
    const int pages = (window + 127) / 128;
    for (int64_t position = 0; position < 1500; ++position) {
      for (int page = 0; page <= position / 128; ++page) {
        EXPECT_EQ(visibility.Sealed(page, position),
                  page > 0 && page <= position / 128 - 1 - pages);
      }
    }
  }
}

TEST(KvCache, SealingIsSpreadEvenly) {
  for (const int window : {128, 256, 1024}) {
    const int layers = 30, heads = 3, total = layers * heads * 2;
    CachePolicy policy =
        TestPolicy(std::vector<Codec>(layers, kTurbo4), std::vector<Codec>(layers, kTurbo3));
    policy.window = window;
    auto cache = MakeTestCache(TestGeometry(std::vector<int>(layers, 0), heads), policy);
    const SequenceId id = cache->NewSequence();
    Step(*cache, id, 700);  // a prompt does its share, so that decoding stays even
    size_t sum = 0;
    for (int i = 0; i < 1024; ++i) {
      const AppendPlan plan = Step(*cache, id, 1);
      EXPECT_LE(Tasks(plan), static_cast<size_t>((total + 127) / 128))
          << "window " << window << " step " << i;
      EXPECT_TRUE(plan.seal_after_encode.empty());
      sum += Tasks(plan);
    }
    const int pages = (1724 - window) / 128 - (700 - window > 0 ? (700 - window) / 128 : 0);
    EXPECT_NEAR(static_cast<double>(sum), pages * total, total);  // and nothing is forgotten
  }
}

TEST(KvCache, WithoutAWindowAPageIsSealedAtTheBoundary) {
  auto cache = OneLayer(0);
  const SequenceId id = cache->NewSequence();
  for (int length = 1; length <= 600; ++length) {
    const AppendPlan plan = Step(*cache, id, 1);
    EXPECT_EQ(Tasks(plan), (length - 1) % 128 == 0 && length > 129 ? 2u : 0u) << length;
  }
}

TEST(KvCache, PrefillSealsWhatItsQueriesRead) {
  auto cache = OneLayer();
  const SequenceId id = cache->NewSequence();
  Step(*cache, id, 200);
  const AppendPlan plan = Step(
      *cache, id, 400);  // to 600: queries up to 599 read pages 1 and 2 sealed, page 3 has 88 / 128
  EXPECT_TRUE(plan.seal_early.empty());  // no page but the sink was full before
  std::map<int, int> tasks;
  for (const SealTask& task : plan.seal_after_encode) ++tasks[task.page];
  EXPECT_EQ(tasks, (std::map<int, int>{{1, 2}, {2, 2}, {3, 2}}));
  const AppendPlan next = Step(*cache, id, 100);  // to 700: page 4 has 60 / 128, filled now
  EXPECT_TRUE(next.seal_early.empty());
  EXPECT_EQ(next.seal_after_encode.size(), 1u);
  const AppendPlan last = Step(*cache, id, 100);
  EXPECT_EQ(last.seal_early.size(), 1u);  // the rest of page 4, which was full before
}

TEST(KvCache, PlanIsAllOrNothing) {
  auto cache =
      OneLayer(128, 2 * PageArena::kSlabBytes);  // one slab of open pages, one of sealed ones
  const SequenceId a = cache->NewSequence(), b = cache->NewSequence();
  Step(*cache, a, 1000);
  const KvMemory before = cache->Memory();
  const KvLayerView view = cache->View(a, 0);
  const std::vector<uint32_t> open(view.open_pages, view.open_pages + view.num_pages);
  const std::vector<AppendRequest> batch = {{b, 500}, {a, 100000}};
  try {
    cache->PlanAppend(batch);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kOutOfMemory);
    EXPECT_THAT(error.what(), HasSubstr("budget 4.0 MiB"));
  }
  EXPECT_EQ(cache->Length(a), 1000);
  EXPECT_EQ(cache->Length(b), 0);
  EXPECT_EQ(cache->Memory().used_bytes, before.used_bytes);
  EXPECT_EQ(cache->Memory().committed_bytes, before.committed_bytes);
  const KvLayerView after = cache->View(a, 0);
  EXPECT_EQ(std::vector<uint32_t>(after.open_pages, after.open_pages + after.num_pages), open);
  Step(*cache, a, 1);
}

TEST(KvCache, WrongCallsAreRefused) {
  auto cache = OneLayer();
  const SequenceId id = cache->NewSequence();
  const auto message = [](auto&& call) -> std::string {
    try {
      call();
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
      return error.what();
    }
    return "nothing";
  };
  EXPECT_THAT(message([&] { cache->Length(7); }), HasSubstr("no sequence 7"));
  EXPECT_THAT(message([&] { cache->FreeSequence(-1); }), HasSubstr("no sequence -1"));
  EXPECT_THAT(message([&] { Step(*cache, id, 0); }), HasSubstr("append 0 tokens"));
  const std::vector<AppendRequest> twice = {{id, 1}, {id, 1}};
  EXPECT_THAT(message([&] { cache->PlanAppend(twice); }), HasSubstr("twice"));
  EXPECT_THAT(message([&] { cache->Truncate(id, -1); }), HasSubstr("-1"));
  EXPECT_THAT(message([&] { cache->View(id, 1); }), HasSubstr("no layer 1"));
  EXPECT_THAT(message([&] { OneLayer(-1); }), HasSubstr("window -1"));
  EXPECT_THROW(MakeTestCache(TestGeometry({0}, 1, 72), TestPolicy({kTurbo3}, {kTurbo3})), Error);
}

TEST(KvCache, ReserveSaysWhatWouldFit) {
  auto cache = OneLayer(128, 8 * PageArena::kSlabBytes);
  const SequenceId id = cache->NewSequence();
  Step(*cache, id, 300);
  try {
    cache->Reserve(id, 10'000'000);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kOutOfMemory);
    const std::string text = error.what();
    EXPECT_THAT(text, AllOf(HasSubstr("10000000 more tokens need"), HasSubstr("budget is 16.0 MiB"),
                            HasSubstr("would fit")));
    const int64_t fits = std::stoll(text.substr(text.find("MiB; ") + 5));
    EXPECT_GT(fits, 200000);
    cache->Reserve(id, fits);
    EXPECT_THROW(cache->Reserve(id, fits + 1), Error);
    for (int64_t left = fits; left > 0; left -= 512)
      Step(*cache, id, static_cast<int>(std::min<int64_t>(left, 512)));
  }
}

TEST(KvCache, BytesForContextIsEnoughAndTight) {
  struct Case {
    std::vector<int> windows;
    CachePolicy policy;
  };
  std::vector<Case> cases;
  cases.push_back(
      {{0, 0, 0}, TestPolicy({kTurbo3, kTurbo8, kTurbo4}, {kTurbo3, kTurbo8, kTurbo2})});
  cases.push_back({{512, 0, 512, 100},
                   TestPolicy(std::vector<Codec>(4, kTurbo3), std::vector<Codec>(4, kTurbo3))});
  cases.push_back({{0, 0}, TestPolicy({kF16, kQ8_0}, {kF16, kTurbo2})});
  cases.back().policy.window = 0;
  for (const Case& c : cases) {
    const KvGeometry geometry = TestGeometry(c.windows, 4);
    for (const int64_t tokens : {1, 128, 700, 5000, 33333}) {
      for (const int chunk : {1, 100, 512}) {
        const uint64_t budget = KvCache::BytesForContext(geometry, c.policy, tokens, chunk);
        auto cache = MakeTestCache(geometry, c.policy, budget);
        const SequenceId id = cache->NewSequence();
        uint64_t most = 0;
        for (int64_t left = tokens; left > 0; left -= chunk) {
          Step(*cache, id, static_cast<int>(std::min<int64_t>(left, chunk)));
          most = std::max(most, cache->Memory().committed_bytes);
        }
        EXPECT_LE(budget, most + 4 * PageArena::kSlabBytes) << tokens << " in chunks of " << chunk;
      }
    }
  }
}

TEST(KvCache, BytesPerToken) {
  const KvGeometry geometry = TestGeometry({0, 0, 512}, 2, 128);
  // turbo3, D 128: r 256 | 4 x (1536 + 1536 + 128) = 13056 a head; f16: 128 x 256 x 2 a head.
  EXPECT_EQ(KvCache::BytesPerToken(geometry, TestPolicy(std::vector<Codec>(3, kTurbo3),
                                                        std::vector<Codec>(3, kTurbo3))),
            2 * 2 * 13056 / 128u);
  EXPECT_EQ(KvCache::BytesPerToken(
                geometry, TestPolicy(std::vector<Codec>(3, kF16), std::vector<Codec>(3, kF16))),
            2 * 2 * 512u);
}

TEST(KvCache, BitsPerValueIsThatOfTheCodecsWhateverTheWindows) {
  const auto all = [](Codec codec) {
    return TestPolicy(std::vector<Codec>(3, codec), std::vector<Codec>(3, codec));
  };
  for (const KvGeometry& geometry :
       {TestGeometry({0, 0, 0}, 2, 128), TestGeometry({0, 512, 512}, 2, 128)}) {
    EXPECT_DOUBLE_EQ(KvCache::BitsPerValue(geometry, all(kF16)), 16.0);
    EXPECT_DOUBLE_EQ(KvCache::BitsPerValue(geometry, all(kQ8_0)), 8.5);
    // The codes and scales, and a reference vector of f16 per page of 128 keys: 1/16 of a bit.
    EXPECT_NEAR(KvCache::BitsPerValue(geometry, all(kTurbo3)), 3.125 + 0.0625, 0.001);
  }
}

TEST(KvCache, SlidingWindowsGiveUpPages) {
  auto cache = MakeTestCache(TestGeometry({0, 800}), TestPolicy(std::vector<Codec>(2, kTurbo3),
                                                                std::vector<Codec>(2, kTurbo3)));
  const SequenceId id = cache->NewSequence();
  Step(*cache, id, 2000);
  const KvLayerView full = cache->View(id, 0), sliding = cache->View(id, 1);
  EXPECT_EQ(full.visibility.sink_pages, 1);
  EXPECT_EQ(sliding.visibility.sink_pages, 0);
  EXPECT_TRUE(sliding.visibility.seals);
  EXPECT_EQ(full.visibility.window_pages, 1);
  EXPECT_EQ(sliding.visibility.window_pages, kSlidingWindowFactor);
  // One can go back to 1936, whose query sees 1137..: page 8 on.
  for (int page = 0; page < sliding.num_pages; ++page) {
    EXPECT_EQ(sliding.open_pages[page] == kNoPage && sliding.sealed_pages[page] == kNoPage,
              page < 8)
        << page;
    EXPECT_FALSE(full.open_pages[page] == kNoPage && full.sealed_pages[page] == kNoPage) << page;
  }
  // A sliding window so short that no page is ever read sealed.
  auto brief = MakeTestCache(TestGeometry({513}), TestPolicy({kTurbo3}, {kTurbo3}));
  const SequenceId other = brief->NewSequence();
  EXPECT_EQ(Tasks(Step(*brief, other, 1000)), 0u);
  EXPECT_FALSE(brief->View(other, 0).visibility.seals);
}

// Back beyond the rollback: the window is appended again, and no more of what is 8 bits for its
// age.
TEST(KvCache, DeepTruncationGoesBackByTheWindowOnly) {
  const auto kept = [](int sliding_window, CachePolicy policy) {
    auto cache = MakeTestCache(TestGeometry({0, sliding_window}), policy);
    const SequenceId id = cache->NewSequence();
    Step(*cache, id, 3000);
    return cache->Truncate(id, 2500);
  };
  CachePolicy policy = TestPolicy({kTurbo3, kTurbo3}, {kTurbo3, kTurbo3});
  EXPECT_EQ(kept(0, policy), (2500 / 128 - 1) * 128);
  EXPECT_EQ(kept(4000, policy), (2500 / 128 - kSlidingWindowFactor) * 128);
  policy = TestPolicy({kTurbo8, kTurbo8}, {kTurbo8, kTurbo8});
  policy.ages = {{1000, kTurbo3, kTurbo3}};
  EXPECT_EQ(kept(0, policy), (2500 / 128 - 1) * 128);
}

TEST(KvCache, ForksShareUntilTheyWrite) {
  auto cache = OneLayer();
  const SequenceId a = cache->NewSequence();
  Step(*cache, a, 300);
  const KvMemory one = cache->Memory();
  const SequenceId b = cache->Fork(a), c = cache->Fork(a);
  EXPECT_EQ(cache->Memory().used_bytes, one.used_bytes);
  EXPECT_DOUBLE_EQ(cache->Memory().bits_per_value, one.bits_per_value);
  const std::vector<AppendRequest> all = {{a, 1}, {b, 1}, {c, 1}};
  cache->Commit(cache->PlanAppend(all));
  EXPECT_EQ(cache->Memory().open_bytes, one.open_bytes + 2 * kOpen);  // the third writes in place
  EXPECT_EQ(cache->View(a, 0).open_pages[1], cache->View(c, 0).open_pages[1]);
  EXPECT_NE(cache->View(a, 0).open_pages[2], cache->View(b, 0).open_pages[2]);
  cache->FreeSequence(a);
  cache->FreeSequence(c);
  cache->FreeSequence(b);
  EXPECT_EQ(cache->Memory().committed_bytes, 0u);
}

TEST(KvCache, AFailedStepIsUndoneByTruncate) {
  auto cache = OneLayer();
  KvDriver driver(*cache);
  const SequenceId id = driver.New();
  driver.Append(id, TestTokens(500, 1));
  const AppendRequest request{id, 700};
  cache->PlanAppend({&request, 1});  // never carried out, never committed
  EXPECT_EQ(cache->Truncate(id, 500), 500);
  driver.CheckNextQuery(id);
  driver.Append(id, TestTokens(700, 2));
  driver.CheckNextQuery(id);
}

}  // namespace
}  // namespace tq
