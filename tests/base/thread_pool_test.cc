// SPDX-License-Identifier: Apache-2.0
#include "turboquant/base/thread_pool.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <thread>
#include <vector>

#include "turboquant/base/thread_team.h"

namespace tq {
namespace {

constexpr int64_t kItems = 1000;

// How often each item was taken, all ranges being as promised.
template <typename Parallel>
std::vector<int> Counts(const ThreadPool& pool, int64_t grain, const Parallel& parallel) {
  std::vector<std::atomic<int>> counts(kItems);
  std::atomic<int> strange = 0;
  parallel(pool, kItems, grain, [&](int64_t begin, int64_t end, int worker) {
    strange += worker < 0 || worker >= pool.num_threads() || begin % grain != 0 ||
               (end % grain != 0 && end != kItems);
    for (int64_t i = begin; i < end; ++i) ++counts[static_cast<size_t>(i)];
  });
  EXPECT_EQ(strange, 0);
  return {counts.begin(), counts.end()};
}
constexpr auto kStatic = [](const ThreadPool& pool, int64_t n, int64_t grain, auto fn) {
  pool.ParallelFor(n, grain, fn);
};
constexpr auto kDynamic = [](const ThreadPool& pool, int64_t n, int64_t grain, auto fn) {
  pool.ParallelForDynamic(n, grain, fn);
};

TEST(ThreadPool, EveryItemOnce) {
  const std::vector<int> once(kItems, 1);
  for (const int threads : {1, 2, 3, 8, 2}) {  // the team grows, then is larger than what is asked
    const ThreadPool pool(threads);
    for (const int64_t grain : {1, 7, 2000}) {
      for (int again = 0; again < 50; ++again) {
        ASSERT_EQ(Counts(pool, grain, kStatic), once) << threads << " threads, grain " << grain;
        ASSERT_EQ(Counts(pool, grain, kDynamic), once) << threads << " threads, grain " << grain;
      }
    }
  }
}

TEST(ThreadPool, WorkersHavePartsOfTheirOwn) {
  const ThreadPool pool(4);
  std::vector<int64_t> begins(4, -1);
  pool.ParallelFor(400, 1, [&](int64_t begin, int64_t end, int worker) {
    begins[static_cast<size_t>(worker)] = begin;
    EXPECT_EQ(end, begin + 100);
  });
  EXPECT_EQ(begins, (std::vector<int64_t>{0, 100, 200, 300}));
}

// Threads that sleep between calls come back, and callers wait for the last one.
TEST(ThreadPool, SleepersWakeUp) {
  const ThreadPool pool(3);
  for (int i = 0; i < 20; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
    std::atomic<int> done = 0;
    pool.ParallelFor(3, 1, [&](int64_t, int64_t, int worker) {
      if (worker == i % 3) std::this_thread::sleep_for(std::chrono::milliseconds(2));
      ++done;
    });
    ASSERT_EQ(done, 3);
  }
}

TEST(ThreadPool, CallersDoNotWaitForEachOther) {
  std::atomic<int> sum = 0;
  std::vector<std::thread> callers;
  for (int c = 0; c < 4; ++c) {
    callers.emplace_back([&] {
      const ThreadPool pool(3);
      for (int i = 0; i < 200; ++i) {
        pool.ParallelForDynamic(10, 1, [&](int64_t begin, int64_t end, int) {
          pool.ParallelFor(
              end - begin, 1,  // within another call: alone
              [&](int64_t from, int64_t to, int) { sum += static_cast<int>(to - from); });
        });
      }
    });
  }
  for (std::thread& caller : callers) caller.join();
  EXPECT_EQ(sum, 4 * 200 * 10);
}

TEST(ThreadPool, ProcessorsAreCounted) {
  EXPECT_GE(ThreadTeam::Processors(), 1);
  EXPECT_LE(ThreadTeam::Processors(), static_cast<int>(std::thread::hardware_concurrency()));
  EXPECT_EQ(ThreadPool().num_threads(), ThreadTeam::Processors());
}

}  // namespace
}  // namespace tq
