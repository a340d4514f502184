// SPDX-License-Identifier: Apache-2.0
// UTF-8, read and written one character at a time.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace tq {

// Length in bytes (1 - 4) of the well-formed character at the start of `text`, 0 if there is none
// (RFC 3629: no overlong forms, no surrogates, nothing above U+10FFFF).
int Utf8Length(std::string_view text);

// The character at the start of `text`, which is well formed.
uint32_t Utf8Decode(std::string_view text);

void Utf8Append(uint32_t code_point, std::string& out);

// Whether `text` could become a well-formed character if more bytes followed.
bool Utf8IsUnfinished(std::string_view text);

}  // namespace tq
