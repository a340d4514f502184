// SPDX-License-Identifier: Apache-2.0
#include "apps/calibration_flags.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <optional>

#include "apps/fetch_model/model_table.h"
#include "apps/interrupt.h"
#include "apps/progress.h"
#include "apps/table.h"
#include "turboquant/base/hash.h"
#include "turboquant/engine/calibration_file.h"
#include "turboquant/engine/calibration_store.h"

namespace tq::app {

void AddCalibrationFlags(Command command, CalibrationFlags& flags) {
  command.AddOption(
      "--calibration", flags.file,
      "Calibration of keys to use (default: the model's own, made at its first load)");
  command.AddFlag("--no-calibration", flags.none, "Keys without calibration: plain rotation")
      .Excludes("--calibration");
}

std::filesystem::path CalibrationFolder() { return DefaultModelFolder() / "calibration"; }

std::shared_ptr<const Calibration> CalibrationFor(const Engine& engine,
                                                  const CalibrationFlags& flags,
                                                  const CachePolicy& policy) {
  if (flags.none || !UsesCalibration(policy)) return nullptr;
  if (!flags.file.empty()) {
    auto calibration = std::make_shared<Calibration>(LoadCalibration(flags.file));
    CheckCalibrationBelongs(*calibration, engine.model_id(), engine.spec().kv_geometry());
    return calibration;
  }
  std::optional<Progress> bar;
  const auto start = std::chrono::steady_clock::now();
  CalibrateOptions options;
  options.progress = [&](int layer, int num_layers) {
    ThrowIfInterrupted();
    if (!bar) bar.emplace("calibrating keys (once per model)", Progress::Unit::kSteps);
    bar->Update(static_cast<uint64_t>(layer), static_cast<uint64_t>(num_layers));
  };
  auto calibration =
      FindOrMakeCalibration(engine, CalibrationFolder(), options,
                            [&](const std::string& notice) { fmt::print(stderr, "{}\n", notice); });
  if (bar) {
    bar->Done();
    const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - start;
    fmt::print(stderr, "calibrated in {}; --no-calibration does without\n",
               FormatSeconds(taken.count()));
  }
  return calibration;
}

int HeadsWithMap(const Calibration& calibration, const std::vector<Codec>& codecs) {
  int heads = 0;
  for (int layer = 0; layer < calibration.num_layers; ++layer) {
    for (int g = 0; g < calibration.kv_heads; ++g)
      heads += calibration.head(layer, g).Uses(codecs[static_cast<size_t>(layer)]);
  }
  return heads;
}

std::string CalibrationTable(const Calibration& calibration) {
  constexpr size_t kWidths = kCalibratedBits.size();
  std::vector<std::string> header = {"layer", "scores, dB"};
  for (const int bits : kCalibratedBits) {
    header.push_back(fmt::format("{} bits, dB", bits));
    header.push_back("heads");
  }
  Table table(std::move(header));
  double all_scores = 0;
  std::array<double, kWidths> all_outputs = {};
  std::array<int, kWidths> all_used = {};
  const auto decibels = [](double ratio) { return -10 * std::log10(ratio); };
  for (int layer = 0; layer < calibration.num_layers; ++layer) {
    double scores = 0;
    std::array<double, kWidths> outputs = {};
    std::array<int, kWidths> used = {};
    for (int g = 0; g < calibration.kv_heads; ++g) {
      const HeadCalibration& head = calibration.head(layer, g);
      scores += head.score_gain_db / calibration.kv_heads;
      for (size_t w = 0; w < kWidths; ++w) {
        outputs[w] += decibels(std::max(head.error_ratio[w], 1e-6f)) / calibration.kv_heads;
        used[w] += head.Gains(w);
      }
    }
    std::vector<std::string> row = {fmt::format("{}", layer), fmt::format("{:.1f}", scores)};
    for (size_t w = 0; w < kWidths; ++w) {
      row.push_back(fmt::format("{:.1f}", outputs[w]));
      row.push_back(fmt::format("{}/{}", used[w], calibration.kv_heads));
      all_outputs[w] += outputs[w] / calibration.num_layers;
      all_used[w] += used[w];
    }
    all_scores += scores / calibration.num_layers;
    table.AddRow(std::move(row));
  }
  std::vector<std::string> row = {"all", fmt::format("{:.1f}", all_scores)};
  for (size_t w = 0; w < kWidths; ++w) {
    row.push_back(fmt::format("{:.1f}", all_outputs[w]));
    row.push_back(fmt::format("{}/{}", all_used[w], calibration.heads.size()));
  }
  table.AddRow(std::move(row));
  return fmt::format(
      "Calibration of keys {} on {} tokens: what the map takes off the error of scores, and of "
      "the\n"
      "output of attention with keys of 2, 3 and 4 bits (held-out tokens); heads that use it:\n{}",
      HexString(calibration.id), calibration.tokens, table.Text());
}

}  // namespace tq::app
