// SPDX-License-Identifier: Apache-2.0
// Files of results, a line each, which a run that was killed leaves with its last line cut off.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>

namespace tq::lab {

// Calls take(number from 1, line) for every line that ends, and for the first one in any case: a
// text of one line without an end may be anything. Returns the bytes of the lines taken. Throws
// kIo; kCorruptFile naming the line where `take` throws what is no tq::Error.
uint64_t ReadLines(const std::filesystem::path& path,
                   const std::function<void(int number, const std::string& line)>& take);

// Removes what lies behind those bytes, so that a line can be added.
void DropCutLine(const std::filesystem::path& path, uint64_t whole_bytes);

}  // namespace tq::lab
