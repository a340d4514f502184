// SPDX-License-Identifier: Apache-2.0
#include "turboquant/base/error.h"

#include <cstdio>
#include <cstdlib>

namespace tq {

void CheckFailed(const char* expression, const char* file, int line) {
  std::fprintf(stderr, "%s:%d: internal error: %s does not hold\n", file, line, expression);
  std::abort();
}

}  // namespace tq
