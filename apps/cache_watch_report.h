// SPDX-License-Identifier: Apache-2.0
// What --cache-watch says, on stderr.
#pragma once

#include "turboquant/engine/cache_watch.h"

namespace tq::app {

void WarnOfDrift(const CacheDrift& drift);      // a head is above the threshold: said once
void PrintCacheWatch(const CacheDrift& drift);  // the figures so far, one line

}  // namespace tq::app
