// SPDX-License-Identifier: Apache-2.0
// Does this hardware compute what it should? Encoding, sealing and attention of a backend against
// the reference: page bytes must be equal, attention within its tolerance.
#pragma once

#include <functional>
#include <string>

#include "turboquant/backend/backend.h"

namespace tq::lab {

struct SelfTestResult {
  std::string what;  // "turbo3, head dim 128"
  enum class Outcome { kPassed, kFailed, kNotSupported } outcome = Outcome::kFailed;
  std::string details;  // "pages equal; attention off by 8.1e-05 (at most 3e-04)"
};

// One result per packed cache type and a few head dims, as they come; some seconds in all (the
// reference is plain scalar code). on_result may throw to stop.
void RunSelfTest(Backend& backend, const std::function<void(const SelfTestResult&)>& on_result);

}  // namespace tq::lab
