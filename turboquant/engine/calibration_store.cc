// SPDX-License-Identifier: Apache-2.0
#include "turboquant/engine/calibration_store.h"

#include <malloc.h>

#include "turboquant/base/error.h"
#include "turboquant/base/hash.h"
#include "turboquant/engine/calibration_file.h"
#include "turboquant/engine/calibration_text.h"

namespace tq {
namespace {

Calibration LoadFor(const std::filesystem::path& path, uint64_t model_id,
                    const KvGeometry& geometry) {
  Calibration calibration = LoadCalibration(path);
  CheckCalibrationBelongs(calibration, model_id, geometry);
  return calibration;
}

}  // namespace

std::filesystem::path CalibrationPath(const std::filesystem::path& folder, uint64_t model_id,
                                      std::string_view text) {
  return folder /
         fmt::format("{}-{}.tqcal", HexString(model_id), HexString(CalibrationTextHash(text)));
}

std::shared_ptr<const Calibration> FindOrMakeCalibration(
    const Engine& engine, const std::filesystem::path& folder, const CalibrateOptions& options,
    const std::function<void(const std::string&)>& notice) {
  const std::filesystem::path path = CalibrationPath(folder, engine.model_id(), options.text);
  try {
    return std::make_shared<Calibration>(
        LoadFor(path, engine.model_id(), engine.spec().kv_geometry()));
  } catch (const Error& error) {
    if (error.code() != ErrorCode::kNotFound)
      notice(fmt::format("{}; it is made anew", error.what()));
  }
  Calibration calibration;
  try {
    calibration = Calibrate(engine, options);
#ifdef __GLIBC__
    // One pass over thousands of tokens has left more free memory than generation ever uses.
    malloc_trim(0);
#endif
  } catch (const Error& error) {
    if (error.code() != ErrorCode::kUnsupported && error.code() != ErrorCode::kInvalidArgument)
      throw;
    notice(fmt::format("{}; going on without calibration", error.what()));
    return nullptr;
  }
  const std::vector<std::byte> bytes = WriteCalibration(calibration);
  try {
    SaveCalibration(path, bytes);
  } catch (const Error& error) {
    notice(fmt::format("the calibration is used but not kept: {}", error.what()));
  }
  return std::make_shared<Calibration>(std::move(calibration));
}

std::shared_ptr<const Calibration> FindCalibration(const std::filesystem::path& folder,
                                                   uint64_t model_id, const KvGeometry& geometry) {
  try {
    return std::make_shared<Calibration>(
        LoadFor(CalibrationPath(folder, model_id), model_id, geometry));
  } catch (const Error&) {
    return nullptr;
  }
}

}  // namespace tq
