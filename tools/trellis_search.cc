// SPDX-License-Identifier: Apache-2.0
// Usage: trellis_search                           prints trellises.inc
//        trellis_search --search BITS [CANDIDATES [SEED]]   the best taps of random ones
#include <fmt/format.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "tools/trellis_table.h"

int main(int argc, char** argv) {
  if (argc == 1) {
    std::fputs(tq::MakeTrellisTable().c_str(), stdout);
    return 0;
  }
  const int bits = argc > 2 ? std::atoi(argv[2]) : 0;
  if (std::strcmp(argv[1], "--search") != 0 || bits < 2 || bits > 4) {
    std::fputs("usage: trellis_search [--search 2|3|4 [CANDIDATES [SEED]]]\n", stderr);
    return 2;
  }
  const int candidates = argc > 3 ? std::atoi(argv[3]) : 1000;
  const uint64_t seed = argc > 4 ? std::strtoull(argv[4], nullptr, 10) : 1;
  for (const tq::FoundTaps& found : tq::SearchTaps(bits, candidates, seed)) {
    std::fputs(fmt::format("{:.3f} dB, taps {:02o} {:02o} {:02o}\n", found.decibels, found.taps[0],
                           found.taps[1], found.taps[2])
                   .c_str(),
               stdout);
  }
  return 0;
}
