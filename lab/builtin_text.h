// SPDX-License-Identifier: Apache-2.0
// The text that policies are measured on if none is given: docs/sample.txt, ours.
#pragma once

#include <string_view>

namespace tq::lab {

std::string_view BuiltinText();

}  // namespace tq::lab
