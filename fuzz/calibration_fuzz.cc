// SPDX-License-Identifier: Apache-2.0
// Calibrations of any bytes: the bytes as they are, then with size and checksum made right. What is
// read must write the same bytes and make key maps.
#include <cstring>

#include "turboquant/base/error.h"
#include "turboquant/base/hash.h"
#include "turboquant/engine/calibration_file.h"

namespace tq {
namespace {

void Read(std::span<const std::byte> bytes) {
  Calibration calibration;
  try {
    calibration = ReadCalibration(bytes);
  } catch (const Error&) {
    return;
  }
  const std::vector<std::byte> again = WriteCalibration(calibration);
  TQ_CHECK(std::ranges::equal(again, bytes));
  const std::vector<Codec> codecs(static_cast<size_t>(calibration.num_layers), Codec::kTurbo3);
  TQ_CHECK(KeyMapSet(calibration, codecs).maps().size() == calibration.heads.size());
}

}  // namespace
}  // namespace tq

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto given = std::as_bytes(std::span(data, size));
  tq::Read(given);
  if (size < 64) return 0;
  // The head's fields by place, as docs/format.md has them: sizes at 16, checksum at 24.
  std::vector<std::byte> bytes(given.begin(), given.end());
  std::memcpy(bytes.data(), "TQCALI\x1a\n\1\0\0\0\0\0\0\0", 16);
  const uint64_t file_bytes = size, none = 0;
  std::memcpy(&bytes[16], &file_bytes, 8);
  std::memcpy(&bytes[24], &none, 8);
  const uint64_t checksum =
      tq::Hash64(std::span(bytes).subspan(64), tq::Hash64(std::span(bytes).first(64)));
  std::memcpy(&bytes[24], &checksum, 8);
  tq::Read(bytes);
  return 0;
}
