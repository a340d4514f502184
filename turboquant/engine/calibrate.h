// SPDX-License-Identifier: Apache-2.0
// Makes a calibration: one prefill of a text, every layer looked at as it passes.
#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "turboquant/engine/calibration.h"
#include "turboquant/engine/engine.h"

namespace tq {

inline constexpr int kCalibrationTokens = 2560;       // at most: whole pages
inline constexpr int kLeastCalibrationTokens = 1024;  // fewer say too little

struct CalibrateOptions {
  std::string_view text;  // empty: the committed one (calibration_text.h)
  std::function<void(int layer, int num_layers)> progress;  // may throw Error(kCancelled)
};

// Throws kUnsupported if the model's heads do not fit packed tiles, kInvalidArgument if the text
// has too few tokens (or the model's context too little room) for it.
Calibration Calibrate(const Engine& engine, const CalibrateOptions& options);

}  // namespace tq
