// SPDX-License-Identifier: Apache-2.0
#include "turboquant/text/byte_alphabet.h"

#include <array>

#include "turboquant/text/utf8.h"

namespace tq {
namespace {

constexpr uint32_t kFirstStandIn = 0x100;

bool StandsForItself(uint32_t byte) {
  return (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte != 0xAD);
}

struct Alphabet {
  std::array<std::string, 256> spelling;
  std::array<int, 512> byte_of;  // by code point, -1: not in the alphabet

  Alphabet() {
    byte_of.fill(-1);
    uint32_t next = kFirstStandIn;
    for (uint32_t byte = 0; byte < 256; ++byte) {
      const uint32_t code_point = StandsForItself(byte) ? byte : next++;
      Utf8Append(code_point, spelling[byte]);
      byte_of[code_point] = static_cast<int>(byte);
    }
  }
};

const Alphabet& GetAlphabet() {
  static const Alphabet alphabet;
  return alphabet;
}

}  // namespace

const std::string& SpellByte(uint8_t byte) { return GetAlphabet().spelling[byte]; }

std::string SpellBytes(std::string_view bytes) {
  std::string out;
  for (const char byte : bytes) out += SpellByte(static_cast<uint8_t>(byte));
  return out;
}

std::string UnspellBytes(std::string_view spelling) {
  const auto& byte_of = GetAlphabet().byte_of;
  std::string out;
  while (!spelling.empty()) {
    const int length = Utf8Length(spelling);
    const auto taken = static_cast<size_t>(length == 0 ? 1 : length);
    const uint32_t code_point = length == 0 ? byte_of.size() : Utf8Decode(spelling);
    if (code_point < byte_of.size() && byte_of[code_point] >= 0) {
      out.push_back(static_cast<char>(byte_of[code_point]));
    } else {
      out.append(spelling.substr(0, taken));
    }
    spelling.remove_prefix(taken);
  }
  return out;
}

}  // namespace tq
