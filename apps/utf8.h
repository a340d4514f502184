// SPDX-License-Identifier: Apache-2.0
// Text that users hand in: read it, and refuse what is not UTF-8 with the place of the first wrong
// byte.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

namespace tq::app {

// Offset of the first byte that no UTF-8 text can have there (overlong forms and surrogates
// included), if any.
std::optional<size_t> FindInvalidUtf8(std::string_view text);

// Throws kInvalidArgument naming `what` and the offset.
void RequireUtf8(std::string_view text, std::string_view what);

// The whole file ("-": standard input). Throws kNotFound, kIo.
std::string ReadTextFile(const std::filesystem::path& path);

}  // namespace tq::app
