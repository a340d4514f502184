// SPDX-License-Identifier: Apache-2.0
// Work shared by threads. All pools draw on the process's one team (thread_team.h): two runtimes on
// few cores thrash.
#pragma once

#include <cstdint>
#include <type_traits>
#include <utility>

namespace tq {

class ThreadPool {
 public:
  // threads <= 0: the number of processors this process may use.
  explicit ThreadPool(int threads = 0);

  int num_threads() const { return num_threads_; }

  // Calls fn(begin, end, worker) on disjoint ranges that cover [0, n), each a multiple of `grain`
  // long but the last; worker is in [0, num_threads()). Ranges are static and contiguous: worker w
  // gets the w-th part. Does not nest.
  template <typename Fn>
  void ParallelFor(int64_t n, int64_t grain, Fn&& fn) const {
    Run(n, grain, &Call<std::remove_reference_t<Fn>>,
        static_cast<void*>(const_cast<std::remove_const_t<std::remove_reference_t<Fn>>*>(&fn)));
  }

  // As above, but ranges of `grain` are handed out as workers become free: for items of unequal
  // cost.
  template <typename Fn>
  void ParallelForDynamic(int64_t n, int64_t grain, Fn&& fn) const {
    RunDynamic(
        n, grain, &Call<std::remove_reference_t<Fn>>,
        static_cast<void*>(const_cast<std::remove_const_t<std::remove_reference_t<Fn>>*>(&fn)));
  }

 private:
  using Body = void (*)(void* context, int64_t begin, int64_t end, int worker);

  template <typename Fn>
  static void Call(void* context, int64_t begin, int64_t end, int worker) {
    (*static_cast<Fn*>(context))(begin, end, worker);
  }
  void Run(int64_t n, int64_t grain, Body body, void* context) const;
  void RunDynamic(int64_t n, int64_t grain, Body body, void* context) const;

  int num_threads_;
};

}  // namespace tq
