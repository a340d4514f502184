// SPDX-License-Identifier: Apache-2.0
#include "lab/lines_file.h"

#include <cerrno>
#include <cstring>
#include <fstream>

#include "turboquant/base/error.h"

namespace tq::lab {

uint64_t ReadLines(const std::filesystem::path& path,
                   const std::function<void(int number, const std::string& line)>& take) {
  std::ifstream in(path, std::ios::binary);
  if (!in) Throw(ErrorCode::kIo, "cannot read {}: {}", path.string(), std::strerror(errno));
  std::string line;
  uint64_t whole = 0;
  for (int number = 1; std::getline(in, line); ++number) {
    if (in.eof() && number > 1) break;
    try {
      take(number, line);
    } catch (const Error&) {
      throw;
    } catch (const std::exception& error) {
      Throw(ErrorCode::kCorruptFile, "{}, line {}: {}; remove the line, or the file", path.string(),
            number, error.what());
    }
    whole += line.size() + 1;
  }
  return whole;
}

void DropCutLine(const std::filesystem::path& path, uint64_t whole_bytes) {
  if (whole_bytes < std::filesystem::file_size(path))
    std::filesystem::resize_file(path, whole_bytes);
}

}  // namespace tq::lab
