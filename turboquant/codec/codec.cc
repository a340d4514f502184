// SPDX-License-Identifier: Apache-2.0
#include "turboquant/codec/codec.h"

#include "turboquant/base/error.h"

namespace tq {
namespace {

bool HasWord(std::string_view words, std::string_view word) {
  while (!words.empty()) {
    const size_t end = words.find(' ');
    if (words.substr(0, end) == word) return true;
    if (end == std::string_view::npos) break;
    words.remove_prefix(end + 1);
  }
  return false;
}

}  // namespace

const CodecInfo& InfoOf(Codec codec) {
  for (const CodecInfo& info : kCodecs) {
    if (info.codec == codec) return info;
  }
  Throw(ErrorCode::kUnsupported, "unknown cache type number {}; known types: {}",
        static_cast<int>(codec), CodecNames());
}

Codec ParseCodec(std::string_view name) {
  for (const CodecInfo& info : kCodecs) {
    if (!name.empty() && (info.name == name || HasWord(info.aliases, name))) return info.codec;
  }
  Throw(ErrorCode::kInvalidArgument, "unknown cache type '{}'; use one of: {}", name, CodecNames());
}

std::string CodecNames() {
  std::string names;
  for (const CodecInfo& info : kCodecs) {
    if (!names.empty()) names += ", ";
    names += info.name;
  }
  return names;
}

double BitsPerValue(Codec codec, int head_dim) {
  const CodecInfo& info = InfoOf(codec);
  if (info.tiles) return info.bits + 16.0 / head_dim;  // one f16 scale per head vector
  if (codec == Codec::kQ8_0 || codec == Codec::kQ4_0) return info.bits + 16.0 / 32;
  return info.bits;
}

}  // namespace tq
