// SPDX-License-Identifier: Apache-2.0
// turboquant calibrate: measures a model's keys and queries and keeps the key transform that fits
// them.
#include "turboquant/engine/calibrate.h"

#include <fmt/format.h>

#include <memory>

#include "apps/calibration_flags.h"
#include "apps/commands.h"
#include "apps/common_flags.h"
#include "apps/interrupt.h"
#include "apps/progress.h"
#include "apps/utf8.h"
#include "turboquant/engine/calibration_file.h"
#include "turboquant/engine/calibration_store.h"

namespace tq::app {
namespace {

struct CalibrateFlags {
  ModelFlags model;
  std::string text_file;
  std::string output;
};

void RunCalibrate(const CalibrateFlags& flags) {
  std::string text;
  if (!flags.text_file.empty()) {
    text = ReadTextFile(flags.text_file);
    RequireUtf8(text, flags.text_file);
    if (text.empty())
      Throw(ErrorCode::kInvalidArgument, "{} is empty: there is nothing to calibrate with",
            flags.text_file);
  }
  const auto engine = LoadEngine(flags.model);
  const std::filesystem::path path =
      flags.output.empty() ? CalibrationPath(CalibrationFolder(), engine->model_id(), text)
                           : std::filesystem::path(flags.output);
  Progress bar("calibrating keys", Progress::Unit::kSteps);
  Calibration calibration = Calibrate(
      *engine, {.text = text, .progress = [&](int layer, int num_layers) {
                  ThrowIfInterrupted();
                  bar.Update(static_cast<uint64_t>(layer), static_cast<uint64_t>(num_layers));
                }});
  bar.Done();
  const std::vector<std::byte> bytes = WriteCalibration(calibration);
  SaveCalibration(path, bytes);
  fmt::print("{}\nwritten to {} ({})", CalibrationTable(calibration), path.string(),
             FormatBytes(static_cast<double>(bytes.size())));
  const bool found = path == CalibrationPath(CalibrationFolder(), engine->model_id());
  fmt::print("{}\n", found ? ", used from now on" : "; use it with --calibration");
}

}  // namespace

void AddCalibrateCommand(Command root) {
  auto flags = std::make_shared<CalibrateFlags>();
  const Command command = root.AddCommand(
      "calibrate", "Fit the transform of keys to a model (done by itself at its first load)");
  AddModelFlags(command, flags->model);
  command.AddOption("-f,--file", flags->text_file,
                    "Text to calibrate with, -: standard input (default: the one built in)");
  command.AddOption("-o,--output", flags->output,
                    "Where to write it (default: the user's cache folder)");
  command.OnRun([flags] { RunCalibrate(*flags); });
}

}  // namespace tq::app
