// SPDX-License-Identifier: Apache-2.0
// --calibration, --no-calibration, and the calibration that a command works with.
#pragma once

#include <filesystem>
#include <memory>
#include <string>

#include "apps/command_line.h"
#include "turboquant/engine/calibration.h"
#include "turboquant/engine/engine.h"

namespace tq::app {

struct CalibrationFlags {
  std::string file;
  bool none = false;
};
void AddCalibrationFlags(Command command, CalibrationFlags& flags);

// Where calibrations of models are kept: in the folder of fetched models.
std::filesystem::path CalibrationFolder();

// What a cache of this policy is to use, or null. Made, with progress on stderr, at the first load
// of a model.
std::shared_ptr<const Calibration> CalibrationFor(const Engine& engine,
                                                  const CalibrationFlags& flags,
                                                  const CachePolicy& policy);

// A line per layer: what the transform gains, and how many heads use it.
std::string CalibrationTable(const Calibration& calibration);

// KV heads whose keys pass through a map if layers [L] come to hold them in `codecs`.
int HeadsWithMap(const Calibration& calibration, const std::vector<Codec>& codecs);

}  // namespace tq::app
