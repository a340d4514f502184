// SPDX-License-Identifier: Apache-2.0
#include "apps/compare_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>

#include "apps/table.h"
#include "lab/svg_plot.h"
#include "turboquant/base/hash.h"
#include "turboquant/base/version.h"

namespace tq::app {
namespace {

using Json = nlohmann::ordered_json;
using lab::Estimate;

Estimate Perplexity(std::span<const float> nll) {
  const Estimate mean = lab::BlockMean(nll, kErrorBlock);
  const double value = std::exp(mean.value);
  return {value, value * mean.error};
}

std::string ShownName(const ComparisonRow& row) {
  return row.type.Name() +
         (row.type.IsSimulated() && row.type.Name().find("simulated") == std::string::npos
              ? " (simulated)"
              : "");
}

bool AnyTiles(const ComparisonRow& row) {
  const auto tiles = [](Codec c) { return InfoOf(c).tiles; };
  return std::any_of(row.policy.k.begin(), row.policy.k.end(), tiles) ||
         std::any_of(row.policy.v.begin(), row.policy.v.end(), tiles);
}

bool HasOptions(const CompareType& type) { return type != CompareType{.k = type.k, .v = type.v}; }

}  // namespace

Estimate Kld(const ComparisonRow& row) { return lab::BlockMean(row.scores.kld, kErrorBlock); }

Estimate KldDifference(const ComparisonRow& a, const ComparisonRow& b) {
  return lab::BlockDifference(a.scores.kld, b.scores.kld, kErrorBlock);
}

Estimate PerplexityRatio(const lab::DivergenceScores& scores) {
  const Estimate log = lab::BlockDifference(scores.nll, scores.nll_base, kErrorBlock);
  const double value = std::exp(log.value);
  return {value, value * log.error};
}

std::string ComparisonTitle(const Comparison& c) {
  return fmt::format(
      "{}, {} windows of {} tokens, {} positions scored, against a cache of {}; keys {}",
      c.engine()->spec().name, c.windows().count, c.windows().context, c.positions(),
      c.reference().type.Name(), c.calibration_id() == 0 ? "not calibrated" : "calibrated");
}

std::string FloorText(const Comparison& c) {
  if (c.floor() == nullptr || c.positions() == 0) return "";
  const Estimate floor = Kld(*c.floor());
  return fmt::format(
      "floor: an f32 cache lies {:.6f} ± {:.6f} from the f16 one, {} {:.4f}{}", floor.value,
      floor.error, floor.value < kMostFloor ? "below" : "ABOVE", kMostFloor,
      floor.value < kMostFloor ? ""
                               : ": rounding hides divergences of this size, use f32 products");
}

void PrintCompareTable(const CompareReport& report) {
  const Comparison& c = report.comparison;
  fmt::print("{}\n", ComparisonTitle(c));
  if (c.positions() == 0) return;
  const Estimate base = Perplexity(c.rows()[0].scores.nll_base);
  fmt::print("perplexity of the reference: {:.4f} ± {:.4f}\n", base.value, base.error);
  const ComparisonRow& against = c.rows()[report.against];
  std::vector<std::string> header = {"cache type (K / V)",
                                     "bits/value",
                                     "KiB/token",
                                     "KLD mean ± SE",
                                     "median",
                                     "99.9 %",
                                     "same top",
                                     "PPL",
                                     "PPL ratio",
                                     "KLD - " + against.type.Name()};
  if (report.depth >= 0) header.push_back(fmt::format("tok/s @ {}", report.depth));
  Table table(std::move(header));
  const auto add = [&](const ComparisonRow& row, std::vector<std::string> scores) {
    std::vector<std::string> cells = {ShownName(row), fmt::format("{:.3f}", row.bits_per_value),
                                      fmt::format("{:.2f}", row.bytes_per_token / 1024)};
    cells.insert(cells.end(), scores.begin(), scores.end());
    if (report.depth >= 0)
      cells.push_back(row.decode_rate > 0 ? fmt::format("{:.1f}", row.decode_rate) : "-");
    table.AddRow(std::move(cells));
  };
  add(c.reference(), {"-", "-", "-", "-", fmt::format("{:.4f}", base.value), "-", "-"});
  for (const ComparisonRow& row : c.rows()) {
    const Estimate kld = Kld(row), ratio = PerplexityRatio(row.scores),
                   difference = KldDifference(row, against);
    const std::vector<float> sorted = lab::Sorted(row.scores.kld);
    add(row,
        {fmt::format("{:.5f} ± {:.5f}", kld.value, kld.error),
         fmt::format("{:.5f}", lab::Percentile(sorted, 0.5)),
         fmt::format("{:.4f}", lab::Percentile(sorted, 0.999)),
         fmt::format("{:.2f} %", 100 * row.scores.same_top_rate().value),
         fmt::format("{:.4f}", Perplexity(row.scores.nll).value),
         fmt::format("{:.4f} ± {:.4f}", ratio.value, ratio.error),
         &row == &against ? "-"
                          : fmt::format("{:+.5f} ± {:.5f}", difference.value, difference.error)});
  }
  fmt::print(
      "\n{}\nKLD: divergence of the predictions from the reference's, 0 is the same. Standard "
      "errors (±) are over blocks of {} positions, those of differences and ratios of pairs.\n",
      table.Text(), kErrorBlock);
  if (const std::string floor = FloorText(c); !floor.empty()) fmt::print("{}\n", floor);
}

void PrintCompareJson(const CompareReport& report) {
  const Comparison& c = report.comparison;
  Json json;
  json["model"] = c.engine()->spec().name;
  json["architecture"] = c.engine()->spec().architecture;
  json["build"] = kBuildCommit;
  json["device"] = c.engine()->backend().name();
  json["context"] = c.windows().context;
  json["windows"] = c.windows().count;
  json["positions"] = c.positions();
  json["complete"] = c.complete();
  json["precision"] = c.flags().step.fast ? "fast" : "precise";
  json["calibration"] = c.calibration_id() == 0 ? "" : HexString(c.calibration_id());
  json["cache_window"] = c.reference().policy.window_pages() * kPageTokens;
  json["cache_sinks"] = c.reference().policy.sink_pages * kPageTokens;
  json["error_block"] = kErrorBlock;
  if (report.depth >= 0) json["decode_depth"] = report.depth;
  if (c.floor() != nullptr && c.positions() > 0) {
    json["floor"] = Kld(*c.floor()).value;
    json["floor_low_enough"] = Kld(*c.floor()).value < kMostFloor;
  }
  json["rows"] = Json::array();
  const auto add = [&](const ComparisonRow& row, bool reference) {
    Json entry;
    entry["name"] = row.type.Name();
    entry["type_k"] = row.type.k;
    entry["type_v"] = row.type.v;
    entry["reference"] = reference;
    entry["simulated"] = row.type.IsSimulated();
    entry["bits_per_value"] = row.bits_per_value;
    entry["kv_bytes_per_token"] = row.bytes_per_token;
    if (!reference && row.scores.size() > 0) {
      const std::vector<float> sorted = lab::Sorted(row.scores.kld);
      const Estimate kld = Kld(row), ratio = PerplexityRatio(row.scores),
                     ppl = Perplexity(row.scores.nll), base = Perplexity(row.scores.nll_base);
      entry["kld_mean"] = kld.value;
      entry["kld_se"] = kld.error;
      entry["kld_median"] = lab::Percentile(sorted, 0.5);
      entry["kld_99"] = lab::Percentile(sorted, 0.99);
      entry["kld_99_9"] = lab::Percentile(sorted, 0.999);
      entry["same_top"] = row.scores.same_top_rate().value;
      entry["ppl"] = ppl.value;
      entry["ppl_se"] = ppl.error;
      entry["ppl_reference"] = base.value;
      entry["ppl_reference_se"] = base.error;
      entry["ppl_ratio"] = ratio.value;
      entry["ppl_ratio_se"] = ratio.error;
      entry["kld_minus"] = Json::object();
      for (const ComparisonRow& other : c.rows()) {
        if (&other == &row) continue;
        const Estimate difference = KldDifference(row, other);
        entry["kld_minus"][other.type.Name()] = {{"mean", difference.value},
                                                 {"se", difference.error}};
      }
    }
    if (report.depth >= 0 && row.decode_rate > 0)
      entry["decode_tokens_per_second"] = row.decode_rate;
    json["rows"].push_back(std::move(entry));
  };
  add(c.reference(), true);
  for (const ComparisonRow& row : c.rows()) add(row, false);
  fmt::print("{}\n", json.dump(2));
}

std::string CompareSvg(const Comparison& c) {
  lab::Plot plot;
  plot.title = fmt::format("{}, context {}", c.engine()->spec().name, c.windows().context);
  plot.x_label = "bits per value, scales included";
  plot.y_label =
      fmt::format("KL divergence from a cache of {} (mean, ± SE)", c.reference().type.Name());
  plot.log_y = true;
  lab::PlotSeries cured{"TurboQuant", {}, false},
      some{"some cures off, or ideas of others", {}, false},
      bare{"as the forks have it (simulated)", {}, false}, plain{"plain formats", {}, false};
  for (const ComparisonRow& row : c.rows()) {
    if (&row == c.floor()) continue;
    const CompareType shown = {.k = row.type.k, .v = row.type.v};
    const bool is_bare = row.type.IsBare() && row.type.ideas.empty();
    lab::PlotSeries& series = is_bare && AnyTiles(row) ? bare
                              : HasOptions(row.type)   ? some
                              : AnyTiles(row)          ? cured
                                                       : plain;
    std::string label = &series == &some ? row.type.Name() : shown.Name();
    label.erase(std::remove(label.begin(), label.end(), ' '), label.end());
    const Estimate kld = Kld(row);
    series.points.push_back({row.bits_per_value, kld.value, kld.error, label});
  }
  for (lab::PlotSeries* series : {&cured, &bare, &some, &plain})
    if (!series->points.empty()) plot.series.push_back(std::move(*series));
  return lab::RenderSvg(plot);
}

void WriteTextFile(const std::string& path, const std::string& text) {
  std::ofstream out(path, std::ios::binary);
  out << text << std::flush;
  if (!out) Throw(ErrorCode::kIo, "cannot write {}: {}", path, std::strerror(errno));
}

}  // namespace tq::app
