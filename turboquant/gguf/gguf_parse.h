// SPDX-License-Identifier: Apache-2.0
// The bytes of one GGUF file -> metadata and tensor index. Used by GgufFile only.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "turboquant/gguf/gguf_file.h"

namespace tq {

struct ParsedGguf {
  std::map<std::string, GgufValue, std::less<>> metadata;
  std::vector<GgufTensor> tensors;  // file is left out
  uint64_t index_end = 0;           // bytes of header, metadata and tensor index
};

// Throws as GgufFile::Open does; messages begin with `name`.
ParsedGguf ParseGguf(std::span<const std::byte> bytes, std::string_view name);

// Text from a file for a message: unprintable bytes escaped, cut after 80 characters.
std::string Printable(std::string_view text);

}  // namespace tq
