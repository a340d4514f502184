// SPDX-License-Identifier: Apache-2.0
#include "apps/utf8.h"

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>

#include "turboquant/base/error.h"

namespace tq::app {

std::optional<size_t> FindInvalidUtf8(std::string_view text) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  for (size_t i = 0; i < text.size();) {
    const unsigned lead = byte(i);
    if (lead < 0x80) {
      ++i;
      continue;
    }
    const size_t length = lead >= 0xC2 && lead <= 0xDF   ? 2
                          : (lead & 0xF0) == 0xE0        ? 3
                          : lead >= 0xF0 && lead <= 0xF4 ? 4
                                                         : 0;
    if (length == 0 || i + length > text.size()) return i;
    for (size_t k = 1; k < length; ++k) {
      if ((byte(i + k) & 0xC0) != 0x80) return i;
    }
    const unsigned second = byte(i + 1);
    const bool overlong = (lead == 0xE0 && second < 0xA0) || (lead == 0xF0 && second < 0x90);
    const bool surrogate = lead == 0xED && second >= 0xA0;
    const bool too_large = lead == 0xF4 && second >= 0x90;
    if (overlong || surrogate || too_large) return i;
    i += length;
  }
  return std::nullopt;
}

void RequireUtf8(std::string_view text, std::string_view what) {
  if (const auto offset = FindInvalidUtf8(text)) {
    Throw(ErrorCode::kInvalidArgument,
          "{} is not valid UTF-8: byte 0x{:02x} at offset {}; convert it to UTF-8 first", what,
          static_cast<unsigned char>(text[*offset]), *offset);
  }
}

std::string ReadTextFile(const std::filesystem::path& path) {
  std::error_code ignored;
  if (std::filesystem::is_directory(path, ignored))
    Throw(ErrorCode::kIo, "{} is a folder, not a text file", path.string());
  const bool standard_input = path == "-";
  std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(
      standard_input ? stdin : std::fopen(path.c_str(), "rb"),
      [](std::FILE* f) { return f == stdin ? 0 : std::fclose(f); });
  if (!file) {
    Throw(errno == ENOENT ? ErrorCode::kNotFound : ErrorCode::kIo, "cannot open {}: {}",
          path.string(), std::strerror(errno));
  }
  std::string text;
  char block[1 << 16];
  for (size_t n; (n = std::fread(block, 1, sizeof block, file.get())) > 0;) text.append(block, n);
  if (std::ferror(file.get()))
    Throw(ErrorCode::kIo, "cannot read {}: {}", path.string(), std::strerror(errno));
  return text;
}

}  // namespace tq::app
