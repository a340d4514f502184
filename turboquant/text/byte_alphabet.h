// SPDX-License-Identifier: Apache-2.0
// How byte-level vocabularies spell bytes: printable Latin-1 characters stand for themselves, the
// other 68 bytes for U+0100 onwards, in order of the byte (Radford et al. 2019, GPT-2).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace tq {

// The spelling of one byte, one character of UTF-8.
const std::string& SpellByte(uint8_t byte);
std::string SpellBytes(std::string_view bytes);

// The bytes of a spelling; characters outside the alphabet stay as they are.
std::string UnspellBytes(std::string_view spelling);

}  // namespace tq
