// SPDX-License-Identifier: Apache-2.0
#include "turboquant/base/thread_pool.h"

#include <omp.h>

#include <algorithm>

namespace tq {

ThreadPool::ThreadPool(int threads) : num_threads_(threads > 0 ? threads : omp_get_num_procs()) {}

void ThreadPool::Run(int64_t n, int64_t grain, Body body, void* context) const {
  grain = std::max<int64_t>(grain, 1);
  const int64_t blocks = (n + grain - 1) / grain;
  if (blocks <= 0) return;
  if (num_threads_ == 1 || blocks == 1) {
    body(context, 0, n, 0);
    return;
  }
#pragma omp parallel num_threads(num_threads_)
  {
    // The runtime may grant fewer threads than asked for: each takes every granted-th part.
    const int granted = omp_get_num_threads();
    for (int part = omp_get_thread_num(); part < num_threads_; part += granted) {
      const int64_t begin = blocks * part / num_threads_ * grain;
      const int64_t end = std::min(n, blocks * (part + 1) / num_threads_ * grain);
      if (begin < end) body(context, begin, end, part);
    }
  }
}

void ThreadPool::RunDynamic(int64_t n, int64_t grain, Body body, void* context) const {
  grain = std::max<int64_t>(grain, 1);
  const int64_t blocks = (n + grain - 1) / grain;
  if (blocks <= 0) return;
  if (num_threads_ == 1 || blocks == 1) {
    body(context, 0, n, 0);
    return;
  }
#pragma omp parallel for schedule(dynamic, 1) num_threads(num_threads_)
  for (int64_t block = 0; block < blocks; ++block) {
    body(context, block * grain, std::min(n, (block + 1) * grain), omp_get_thread_num());
  }
}

}  // namespace tq
