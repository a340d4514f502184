// SPDX-License-Identifier: Apache-2.0
// A calibration as bytes and as a file (docs/format.md).
#pragma once

#include <cstddef>
#include <filesystem>
#include <span>
#include <vector>

#include "turboquant/engine/calibration.h"

namespace tq {

inline constexpr uint32_t kCalibrationVersion = 3;

// The bytes of the file; sets the calibration's id, which is their checksum.
std::vector<std::byte> WriteCalibration(Calibration& calibration);
// Throws kCorruptFile (damaged, truncated, foreign), kUnsupported (another format version).
Calibration ReadCalibration(std::span<const std::byte> bytes);

// The same with files; errors name the path. Save replaces the file as a whole (kIo: the previous
// one is as it was) and makes the folder.
void SaveCalibration(const std::filesystem::path& path, std::span<const std::byte> bytes);
Calibration LoadCalibration(const std::filesystem::path& path);  // also kNotFound, kIo

}  // namespace tq
