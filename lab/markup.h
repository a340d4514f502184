// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>

namespace tq::lab {

// & < > " ' as entities, for text and attributes of HTML and SVG.
std::string EscapeMarkup(std::string_view text);

}  // namespace tq::lab
