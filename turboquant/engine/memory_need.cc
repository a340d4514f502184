// SPDX-License-Identifier: Apache-2.0
#include "turboquant/engine/memory_need.h"

#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <limits>
#include <string>

#include "turboquant/base/error.h"
#include "turboquant/base/mebibytes.h"

namespace tq {
namespace {

// The number after `key` in a text file of "key value" lines, or the first number if `key` is
// empty; `fallback` if there is none ("max" in a control group).
uint64_t NumberIn(const char* path, const std::string& key, uint64_t fallback) {
  std::ifstream file(path);
  std::string word;
  while (file >> word) {
    if (!key.empty() && word != key) continue;
    uint64_t value = 0;
    if (key.empty())
      return word.find_first_not_of("0123456789") == std::string::npos ? std::stoull(word)
                                                                       : fallback;
    return file >> value ? value : fallback;
  }
  return fallback;
}

}  // namespace

uint64_t AvailableMemory() {
  constexpr uint64_t kNone = std::numeric_limits<uint64_t>::max();
  const uint64_t physical = static_cast<uint64_t>(sysconf(_SC_PHYS_PAGES)) *
                            static_cast<uint64_t>(sysconf(_SC_PAGE_SIZE));
  const uint64_t kib = NumberIn("/proc/meminfo", "MemAvailable:", kNone);
  uint64_t available = kib == kNone ? physical : std::min(physical, kib * 1024);
  const uint64_t limit = NumberIn("/sys/fs/cgroup/memory.max", "", kNone);
  const uint64_t used = NumberIn("/sys/fs/cgroup/memory.current", "", kNone);
  if (limit != kNone && used != kNone) {  // what is cached of files can be given back
    const uint64_t taken = used - std::min(used, NumberIn("/sys/fs/cgroup/memory.stat", "file", 0));
    available = std::min(available, limit - std::min(limit, taken));
  }
  return available;
}

void CheckContextFits(const KvGeometry& geometry, const CachePolicy& policy, int64_t context,
                      int chunk, const MemoryLimit& limit) {
  const auto need = [&](int64_t tokens) {
    return KvCache::BytesForContext(geometry, policy, tokens, chunk);
  };
  const uint64_t bytes = need(context);
  if (bytes <= limit.bytes) return;
  int64_t fits = 0, too_many = context;
  while (too_many - fits > 1) {
    const int64_t middle = fits + (too_many - fits) / 2;
    (need(middle) <= limit.bytes ? fits : too_many) = middle;
  }
  const std::string advice =
      fits > 0
          ? fmt::format("{} tokens would fit; fewer bits per value or a smaller context help", fits)
          : std::string("not even one page of tokens would fit");
  Throw(ErrorCode::kOutOfMemory,
        "a context of {} tokens needs {:.1f} MiB of cache, but {} {:.1f} MiB: {}", context,
        Mebibytes(bytes), limit.what, Mebibytes(limit.bytes), advice);
}

}  // namespace tq
