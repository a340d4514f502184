// SPDX-License-Identifier: Apache-2.0
// Model files: parsed or refused with tq::Error, never more; then what is built from metadata
// alone.
#include "turboquant/base/error.h"
#include "turboquant/gguf/gguf_file.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  try {
    const auto file = tq::GgufFile::Parse(std::as_bytes(std::span(data, size)), "fuzz");
    for (const tq::GgufTensor& tensor : file.tensors())
      TQ_CHECK(file.FindTensor(tensor.name) != nullptr);
    file.Identity();
  } catch (const tq::Error&) {
  }
  return 0;
}
