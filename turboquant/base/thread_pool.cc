// SPDX-License-Identifier: Apache-2.0
#include "turboquant/base/thread_pool.h"

#include <algorithm>
#include <atomic>

#include "turboquant/base/thread_team.h"

namespace tq {

ThreadPool::ThreadPool(int threads)
    : num_threads_(threads > 0 ? threads : ThreadTeam::Processors()) {}

void ThreadPool::Run(int64_t n, int64_t grain, Body body, void* context) const {
  grain = std::max<int64_t>(grain, 1);
  const int64_t blocks = (n + grain - 1) / grain;
  if (blocks <= 0) return;
  if (num_threads_ == 1 || blocks == 1) {
    body(context, 0, n, 0);
    return;
  }
  struct Region {
    int64_t n, grain, blocks;
    int parts;
    Body body;
    void* context;
  } region{n, grain, blocks, num_threads_, body, context};
  ThreadTeam::Run(
      num_threads_,
      [](void* data, int index, int members) {
        const Region& r = *static_cast<Region*>(data);
        // There may be fewer members than parts: each takes every members-th part.
        for (int part = index; part < r.parts; part += members) {
          const int64_t begin = r.blocks * part / r.parts * r.grain;
          const int64_t end = std::min(r.n, r.blocks * (part + 1) / r.parts * r.grain);
          if (begin < end) r.body(r.context, begin, end, part);
        }
      },
      &region);
}

void ThreadPool::RunDynamic(int64_t n, int64_t grain, Body body, void* context) const {
  grain = std::max<int64_t>(grain, 1);
  const int64_t blocks = (n + grain - 1) / grain;
  if (blocks <= 0) return;
  if (num_threads_ == 1 || blocks == 1) {
    body(context, 0, n, 0);
    return;
  }
  struct Region {
    int64_t n, grain, blocks;
    Body body;
    void* context;
    std::atomic<int64_t> next = 0;
  } region{n, grain, blocks, body, context};
  const auto threads = static_cast<int>(std::min<int64_t>(num_threads_, blocks));
  ThreadTeam::Run(
      threads,
      [](void* data, int index, int) {
        Region& r = *static_cast<Region*>(data);
        for (int64_t block; (block = r.next.fetch_add(1)) < r.blocks;)
          r.body(r.context, block * r.grain, std::min(r.n, (block + 1) * r.grain), index);
      },
      &region);
}

}  // namespace tq
