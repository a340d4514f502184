// SPDX-License-Identifier: Apache-2.0
#include "apps/cache_watch_report.h"

#include <fmt/format.h>

#include "apps/progress.h"

namespace tq::app {
namespace {

std::string WorstHead(const CacheDrift& drift) {
  const HeadDrift& worst = drift.heads[static_cast<size_t>(drift.worst)];
  return fmt::format("layer {} KV head {}: output off by {:.0f} %, {:.0f} % of its attention moved",
                     worst.layer, worst.kv_head, 100 * worst.drift.RelativeError(),
                     100 * worst.drift.Moved());
}

}  // namespace

void WarnOfDrift(const CacheDrift& drift) {
  fmt::print(
      stderr,
      "\nwarning: the compressed cache harms this model ({}, against 8-bit pages). Take more "
      "bits for keys (-ctk turbo8, or q8_0), or let `turboquant recommend` choose\n",
      WorstHead(drift));
}

void PrintCacheWatch(const CacheDrift& drift) {
  if (drift.heads.empty()) {
    fmt::print(stderr, "watch    nothing of this cache is compressed\n");
  } else if (drift.worst < 0) {
    fmt::print(stderr, "watch    no compressed page was read yet\n");
  } else {
    fmt::print(stderr,
               "watch    {} queries of {} heads: output off by {:.1f} %, {:.1f} % of the attention "
               "moved; worst: {}; {} of 8-bit copies\n",
               drift.all.queries, drift.heads.size(), 100 * drift.all.RelativeError(),
               100 * drift.all.Moved(), WorstHead(drift),
               FormatBytes(static_cast<double>(drift.copy_bytes)));
  }
}

}  // namespace tq::app
