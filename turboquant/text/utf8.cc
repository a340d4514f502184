// SPDX-License-Identifier: Apache-2.0
#include "turboquant/text/utf8.h"

namespace tq {
namespace {

struct Lead {
  int length = 0;             // 0: not the first byte of a character
  uint8_t second_min = 0x80;  // range of the second byte; the others are 80 - BF
  uint8_t second_max = 0xBF;
};

// Unicode standard, table 3-7.
Lead LeadOf(uint8_t byte) {
  if (byte < 0x80) return {.length = 1};
  if (byte < 0xC2) return {};
  if (byte < 0xE0) return {.length = 2};
  if (byte == 0xE0) return {.length = 3, .second_min = 0xA0};
  if (byte == 0xED) return {.length = 3, .second_max = 0x9F};
  if (byte < 0xF0) return {.length = 3};
  if (byte == 0xF0) return {.length = 4, .second_min = 0x90};
  if (byte < 0xF4) return {.length = 4};
  if (byte == 0xF4) return {.length = 4, .second_max = 0x8F};
  return {};
}

// Bytes of `text`, at most `lead.length`, that continue the lead byte properly.
int GoodBytes(std::string_view text, const Lead& lead) {
  int good = 1;
  for (; good < lead.length && good < static_cast<int>(text.size()); ++good) {
    const auto byte = static_cast<uint8_t>(text[static_cast<size_t>(good)]);
    const uint8_t min = good == 1 ? lead.second_min : 0x80;
    const uint8_t max = good == 1 ? lead.second_max : 0xBF;
    if (byte < min || byte > max) break;
  }
  return good;
}

}  // namespace

int Utf8Length(std::string_view text) {
  if (text.empty()) return 0;
  const Lead lead = LeadOf(static_cast<uint8_t>(text[0]));
  return lead.length != 0 && GoodBytes(text, lead) == lead.length ? lead.length : 0;
}

uint32_t Utf8Decode(std::string_view text) {
  const auto first = static_cast<uint8_t>(text[0]);
  const int length = LeadOf(first).length;
  if (length <= 1) return first;
  uint32_t code_point = first & (0xFFu >> (length + 1));
  for (int i = 1; i < length; ++i) {
    code_point = code_point << 6 | (static_cast<uint8_t>(text[static_cast<size_t>(i)]) & 0x3Fu);
  }
  return code_point;
}

void Utf8Append(uint32_t code_point, std::string& out) {
  const auto put = [&out](uint32_t byte) { out.push_back(static_cast<char>(byte)); };
  if (code_point < 0x80) return put(code_point);
  if (code_point < 0x800) {
    put(0xC0 | code_point >> 6);
  } else {
    if (code_point < 0x10000) {
      put(0xE0 | code_point >> 12);
    } else {
      put(0xF0 | code_point >> 18);
      put(0x80 | (code_point >> 12 & 0x3F));
    }
    put(0x80 | (code_point >> 6 & 0x3F));
  }
  put(0x80 | (code_point & 0x3F));
}

bool Utf8IsUnfinished(std::string_view text) {
  if (text.empty()) return false;
  const Lead lead = LeadOf(static_cast<uint8_t>(text[0]));
  return static_cast<int>(text.size()) < lead.length &&
         GoodBytes(text, lead) == static_cast<int>(text.size());
}

}  // namespace tq
