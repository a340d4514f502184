// SPDX-License-Identifier: Apache-2.0
// Calibrations of models in a folder: read if there, else made and kept.
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <string>

#include "turboquant/engine/calibrate.h"

namespace tq {

// FOLDER/MODEL-TEXT.tqcal, both as hashes; `text` empty: the committed one.
std::filesystem::path CalibrationPath(const std::filesystem::path& folder, uint64_t model_id,
                                      std::string_view text = {});

// Of the committed text. A file that is damaged, of another version or another model's is made
// anew; a folder that cannot be written is no reason to fail: `notice` says so. Null, with a
// notice, where the model cannot be calibrated. Throws kCancelled if options.progress does.
std::shared_ptr<const Calibration> FindOrMakeCalibration(
    const Engine& engine, const std::filesystem::path& folder, const CalibrateOptions& options,
    const std::function<void(const std::string&)>& notice);

// Null if the folder has none that can be used.
std::shared_ptr<const Calibration> FindCalibration(const std::filesystem::path& folder,
                                                   uint64_t model_id, const KvGeometry& geometry);

}  // namespace tq
