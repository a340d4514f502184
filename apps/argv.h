// SPDX-License-Identifier: Apache-2.0
// llama.cpp's spellings with one dash and several letters (-ctk, -ngl, ...), which the flag parser
// does not know.
#pragma once

#include <span>
#include <string>
#include <vector>

namespace tq::app {

// argv[1..] with such spellings replaced by their long form.
std::vector<std::string> ExpandShortFlags(std::span<char* const> argv);

}  // namespace tq::app
