// SPDX-License-Identifier: Apache-2.0
#include "turboquant/text/tokenizer.h"
#include "turboquant/text/utf8.h"

namespace tq {
namespace {

// Moves what is certain from `pending` to the result: whole characters, and U+FFFD for each byte
// that cannot belong to one.
std::string TakeCertain(std::string& pending, bool more_may_come) {
  std::string out;
  size_t at = 0;
  while (at < pending.size()) {
    const std::string_view rest = std::string_view(pending).substr(at);
    const auto length = static_cast<size_t>(Utf8Length(rest));
    if (length != 0) {
      out.append(rest.substr(0, length));
      at += length;
    } else if (more_may_come && Utf8IsUnfinished(rest)) {
      break;
    } else {
      Utf8Append(0xFFFD, out);
      ++at;
    }
  }
  pending.erase(0, at);
  return out;
}

}  // namespace

std::string Utf8Stream::Push(std::string_view bytes) {
  pending_.append(bytes);
  return TakeCertain(pending_, true);
}

std::string Utf8Stream::Flush() { return TakeCertain(pending_, false); }

}  // namespace tq
