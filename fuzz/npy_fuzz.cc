// SPDX-License-Identifier: Apache-2.0
// NumPy's arrays: read to the end or refused with tq::Error.
#include <unistd.h>

#include <cstdio>

#include "lab/npy_file.h"
#include "turboquant/base/error.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const std::string path = "/dev/shm/tq_npy_fuzz_" + std::to_string(getpid());
  std::FILE* file = std::fopen(path.c_str(), "wb");
  if (file == nullptr) return 0;
  std::fwrite("\x93NUMPY", 1, 6, file);
  std::fwrite(data, 1, size, file);
  std::fclose(file);
  try {
    tq::lab::ReadNpy(path);
  } catch (const tq::Error&) {
  }
  std::remove(path.c_str());
  return 0;
}
