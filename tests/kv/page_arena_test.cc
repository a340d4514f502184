// SPDX-License-Identifier: Apache-2.0
#include "turboquant/kv/page_arena.h"

#include <gmock/gmock.h>

#include <cstring>
#include <map>

#include "turboquant/base/error.h"
#include "turboquant/base/random.h"
#include "turboquant/kv/kv_view.h"

namespace tq {
namespace {

constexpr uint64_t kSlab = PageArena::kSlabBytes;

PageArena MakeArena(uint64_t slabs, uint64_t budget = 0) {
  return PageArena(MakeHostArenaMemory(slabs * kSlab), budget);
}

TEST(PageArena, TakesAndGivesBackWholeSlabs) {
  PageArena arena = MakeArena(8);
  EXPECT_EQ(arena.committed_bytes(), 0u);
  EXPECT_EQ(arena.budget_bytes(), 8 * kSlab);
  const uint32_t a = arena.Allocate(kSlab / 2), b = arena.Allocate(kSlab / 2),
                 c = arena.Allocate(kSlab / 2);
  EXPECT_EQ(arena.committed_bytes(), 2 * kSlab);
  EXPECT_EQ(b - a, kSlab / 2 / kPageIdUnit);
  arena.Free(c, kSlab / 2);
  EXPECT_EQ(arena.committed_bytes(), kSlab);
  arena.Free(a, kSlab / 2);
  EXPECT_EQ(arena.committed_bytes(), kSlab);
  EXPECT_EQ(arena.Allocate(kSlab / 2), a);  // lowest address first
  arena.Free(a, kSlab / 2);
  arena.Free(b, kSlab / 2);
  EXPECT_EQ(arena.committed_bytes(), 0u);
}

TEST(PageArena, SizesLieInSlabsOfTheirOwn) {
  PageArena arena = MakeArena(64);
  const uint32_t small = arena.Allocate(300), large = arena.Allocate(5 * kSlab + 1),
                 other = arena.Allocate(512);
  EXPECT_EQ(arena.Allocate(512), other + 2);
  EXPECT_EQ(small / (kSlab / kPageIdUnit),
            other / (kSlab / kPageIdUnit));  // 300 is rounded up to 512: the same size
  EXPECT_NE(small / (kSlab / kPageIdUnit), large / (kSlab / kPageIdUnit));
  EXPECT_EQ(arena.committed_bytes(), kSlab + 6 * kSlab);
}

TEST(PageArena, LittleIsLostForAwkwardSizes) {
  for (const uint64_t block :
       {uint64_t{1531904}, uint64_t{600064}, uint64_t{2097408}, uint64_t{8650752}}) {
    const int64_t count = 200;
    PageArena arena = MakeArena(1200);
    for (int64_t i = 0; i < count; ++i) arena.Allocate(block);
    const double lost =
        static_cast<double>(arena.committed_bytes()) / static_cast<double>(block * count) - 1;
    EXPECT_LE(lost, 0.08) << block;
    EXPECT_EQ(arena.committed_bytes(), PageArena::CommitFor(block, count)) << block;
  }
}

TEST(PageArena, BlocksAreZeroAndTheirOwn) {
  PageArena arena = MakeArena(16);
  Random random(3);
  std::map<uint32_t, uint64_t> live;
  std::map<uint32_t, int> fill;
  for (int round = 0; round < 3000; ++round) {
    if (random.Next() % 5 < 3 && live.size() < 12) {
      const uint64_t bytes =
          std::array<uint64_t, 4>{1000, 700 << 10, 1500 << 10, 5 << 20}[random.Next() % 4];
      uint32_t id = 0;
      try {
        id = arena.Allocate(bytes);
      } catch (const Error&) {
        continue;
      }
      std::byte* p = arena.base() + id * kPageIdUnit;
      for (uint64_t i = 0; i < bytes; i += 97) ASSERT_EQ(p[i], std::byte{0});
      fill[id] = 1 + round % 255;
      std::memset(p, fill[id], bytes);
      live[id] = bytes;
    } else if (!live.empty()) {
      auto it = live.begin();
      std::advance(it, random.Next() % live.size());
      const std::byte* p = arena.base() + it->first * kPageIdUnit;
      for (uint64_t i = 0; i < it->second; i += 97)
        ASSERT_EQ(p[i], static_cast<std::byte>(fill[it->first]));
      arena.Free(it->first, it->second);
      live.erase(it);
    }
  }
  for (const auto& [id, bytes] : live) arena.Free(id, bytes);
  EXPECT_EQ(arena.committed_bytes(), 0u);
}

TEST(PageArena, ExtraCommitIsExact) {
  Random random(4);
  for (int round = 0; round < 30; ++round) {
    PageArena arena = MakeArena(400);
    const uint64_t block = 256 * (1 + random.Next() % 12000);
    std::vector<uint32_t> live;
    for (int i = 0; i < 25; ++i) live.push_back(arena.Allocate(block));
    for (const uint32_t id : live) {
      if (random.Next() % 2 == 0) arena.Free(id, block);
    }
    const int64_t count = 1 + static_cast<int64_t>(random.Next() % 20);
    const uint64_t expected = arena.committed_bytes() + arena.ExtraCommit(block, count);
    for (int64_t i = 0; i < count; ++i) arena.Allocate(block);
    EXPECT_EQ(arena.committed_bytes(), expected) << block;
  }
}

TEST(PageArena, BudgetIsAHardLimit) {
  PageArena arena = MakeArena(64, 3 * kSlab);
  EXPECT_TRUE(arena.Fits(kSlab, 3));
  EXPECT_FALSE(arena.Fits(kSlab, 4));
  std::vector<uint32_t> ids;
  for (int i = 0; i < 3; ++i) ids.push_back(arena.Allocate(kSlab));
  try {
    arena.Allocate(1 << 20);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kOutOfMemory);
    EXPECT_THAT(error.what(),
                AllOf(testing::HasSubstr("1.00 MiB"), testing::HasSubstr("budget 6.0 MiB"),
                      testing::HasSubstr("in use 6.0 MiB")));
  }
  EXPECT_EQ(arena.committed_bytes(), 3 * kSlab);
  arena.Free(ids[1], kSlab);
  arena.Allocate(1 << 20);
  EXPECT_EQ(arena.committed_bytes(), 3 * kSlab);
}

TEST(PageArena, AddressesRunOut) {
  PageArena arena = MakeArena(2);
  arena.Allocate(kSlab);
  arena.Allocate(256);
  try {
    arena.Allocate(kSlab);
    FAIL();
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), testing::HasSubstr("addresses"));
  }
}

// A machine that refuses after a number of commits.
class ScarceMemory : public ArenaMemory {
 public:
  std::byte* base() override { return host_->base(); }
  uint64_t reserved_bytes() const override { return host_->reserved_bytes(); }
  bool Commit(uint64_t offset, uint64_t bytes) override {
    const auto slabs = static_cast<int>(bytes / kSlab);
    if (left < slabs) Throw(ErrorCode::kOutOfMemory, "scarce");
    left -= slabs;
    const bool zero = host_->Commit(offset, bytes);
    if (!dirty) return zero;
    std::memset(base() + offset, 0xcc, bytes);
    return false;
  }
  void ZeroBlock(uint64_t offset, uint64_t bytes) override {
    if (++zeroed > most_zeroed) Throw(ErrorCode::kIo, "broken");
    host_->ZeroBlock(offset, bytes);
  }
  void Decommit(uint64_t offset, uint64_t bytes) override {
    left += static_cast<int>(bytes / kSlab);
    host_->Decommit(offset, bytes);
  }
  int left = 2;
  bool dirty = false;
  int zeroed = 0, most_zeroed = 1000;

 private:
  std::unique_ptr<ArenaMemory> host_ = MakeHostArenaMemory(64 * kSlab);
};

TEST(PageArena, RefusedMemoryLeavesNothingBehind) {
  auto memory = std::make_unique<ScarceMemory>();
  ScarceMemory& scarce = *memory;
  PageArena arena(std::move(memory), 0);
  EXPECT_THROW(arena.Allocate(3 * kSlab), Error);
  EXPECT_EQ(arena.committed_bytes(), 0u);
  EXPECT_EQ(scarce.left, 2);
  const uint32_t id = arena.Allocate(2 * kSlab);
  EXPECT_THROW(arena.Allocate(2 * kSlab), Error);
  EXPECT_EQ(arena.committed_bytes(), 2 * kSlab);
  arena.Free(id, 2 * kSlab);
  arena.Allocate(2 * kSlab);
}

TEST(PageArena, SeveralBlocksAreClearedTogetherOrNotTaken) {
  auto memory = std::make_unique<ScarceMemory>();
  ScarceMemory& scarce = *memory;
  scarce.dirty = true;
  scarce.left = 6;
  PageArena arena(std::move(memory), 0);
  std::vector<uint32_t> ids = {7};
  const auto expect_clear = [&](size_t first, uint64_t bytes) {
    for (size_t i = first; i < ids.size(); ++i) {
      std::byte* p = arena.base() + ids[i] * kPageIdUnit;
      for (uint64_t at = 0; at < bytes; ++at) ASSERT_EQ(p[at], std::byte{0}) << i << " " << at;
      std::memset(p, 0xab, bytes);
    }
  };
  arena.Allocate(kSlab / 2, 4, ids);
  EXPECT_EQ(ids.size(), 5u);
  EXPECT_EQ(scarce.zeroed, 1);  // side by side
  expect_clear(1, kSlab / 2);
  EXPECT_EQ(arena.committed_bytes(), 2 * kSlab);

  EXPECT_THROW(arena.Allocate(kSlab, 5, ids), Error);  // memory for four is left
  EXPECT_EQ(ids.size(), 5u);
  EXPECT_EQ(arena.committed_bytes(), 2 * kSlab);
  EXPECT_EQ(scarce.left, 4);
  scarce.most_zeroed = scarce.zeroed;
  EXPECT_THROW(arena.Allocate(kSlab, 2, ids), Error);  // there, but cannot be cleared
  EXPECT_EQ(ids.size(), 5u);
  EXPECT_EQ(arena.committed_bytes(), 2 * kSlab);
  scarce.most_zeroed = 1000;

  arena.Free(ids[2], kSlab / 2);
  ids.erase(ids.begin() + 2);
  arena.Allocate(kSlab / 2, 3, ids);  // between two that live, and behind them
  EXPECT_EQ(scarce.zeroed, 4);        // two for these; one failed
  expect_clear(4, kSlab / 2);
  for (size_t i = 1; i < ids.size(); ++i) {
    const std::byte* p = arena.base() + ids[i] * kPageIdUnit;
    for (uint64_t at = 0; at < kSlab / 2; ++at) ASSERT_EQ(p[at], std::byte{0xab});
    arena.Free(ids[i], kSlab / 2);
  }
  EXPECT_EQ(arena.committed_bytes(), 0u);
}

}  // namespace
}  // namespace tq
