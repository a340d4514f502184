// SPDX-License-Identifier: Apache-2.0
// Files of log-probabilities: read to the end or refused with tq::Error.
#include <unistd.h>

#include <cstdio>
#include <vector>

#include "lab/kld_base_file.h"
#include "turboquant/base/error.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const std::string path = "/dev/shm/tq_kld_fuzz_" + std::to_string(getpid());
  std::FILE* file = std::fopen(path.c_str(), "wb");
  if (file == nullptr) return 0;
  std::fwrite("_logits_", 1, 8, file);
  std::fwrite(data, 1, size, file);
  std::fclose(file);
  try {
    tq::lab::KldBaseReader reader(path);
    std::vector<float> row(static_cast<size_t>(reader.vocabulary()));
    const int64_t rows = static_cast<int64_t>(reader.windows().count) * reader.windows().scored();
    for (int64_t r = 0; r < rows; ++r) reader.DecodeRow(reader.ReadRows(1).data(), row.data());
  } catch (const tq::Error&) {
  }
  std::remove(path.c_str());
  return 0;
}
