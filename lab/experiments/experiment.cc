// SPDX-License-Identifier: Apache-2.0
#include "lab/experiments/experiment.h"

#include <algorithm>
#include <array>
#include <numeric>

#include "turboquant/base/error.h"

namespace tq::lab {
namespace {

constexpr std::array kSources = {
    Source{"AR", "autorepl.dev, project proj_09a0c2, page of the experiment of that id"},
    Source{"F4", "the same, page of fork_466558 (dusterbloom, RTX 3090)"},
    Source{"EX#", "experiments.md of spiritbuun/buun-llama-cpp at f2eb256a5^, item"},
    Source{"SE:", "speed_experiments.md of the same commit, item"},
    Source{"BR", "benchmark-results.md of the same commit, section"},
    Source{"CA", "experiments/competitive-analysis-2026-03-31.md of the same commit"},
    Source{"b:", "commit in spiritbuun/buun-llama-cpp"},
    Source{"T:", "path in TheTom/turboquant_plus at ba52ad1"},
    Source{"M:", "file in Madreag/turbo3-cuda, branch session/23-max-performance"},
    Source{"X:", "file in AmesianX/TurboQuant at cb3c258"},
    Source{"GH", "thread on GitHub"},
};

size_t EditDistance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), size_t{0});
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = row[0]++;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t replaced = diagonal + (a[i - 1] != b[j - 1]);
      diagonal = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, replaced});
    }
  }
  return row.back();
}

}  // namespace

std::span<const Source> Sources() { return kSources; }

std::span<const Experiment> Experiments() {
  static const std::vector<Experiment> all = [] {
    std::vector<Experiment> list;
    for (auto& part :
         {CacheExperiments(), KernelExperiments(), PrefillExperiments(), ProposedExperiments()})
      list.insert(list.end(), part.begin(), part.end());
    return list;
  }();
  return all;
}

const Experiment& GetExperiment(std::string_view id) {
  const auto all = Experiments();
  const auto found = std::ranges::find(all, id, &Experiment::id);
  if (found != all.end()) return *found;
  const auto nearest = std::ranges::min_element(
      all, {}, [&](const Experiment& e) { return EditDistance(e.id, id); });
  Throw(ErrorCode::kInvalidArgument,
        "there is no experiment \"{}\"; did you mean {}? `turboquant lab list` shows all", id,
        nearest->id);
}

std::vector<std::string> RowsOf(const Experiment& experiment) {
  std::vector<std::string> rows;
  const auto add = [&](std::string row) {
    if (std::ranges::find(rows, row) == rows.end()) rows.push_back(std::move(row));
  };
  for (const Claim& claim : experiment.claims) {
    for (const std::string_view row : {claim.a, claim.b}) {
      add(std::string(row));
      if (experiment.measure == Measure::kSpeed)
        add("f16" + std::string(row.substr(std::min(row.find(' '), row.size()))));
    }
  }
  return rows;
}

bool HigherIsBetter(Measure measure) { return measure != Measure::kDivergence; }

std::string_view UnitOf(Measure measure) {
  switch (measure) {
    case Measure::kDivergence:
      return "KLD";
    case Measure::kRetrieval:
      return "found";
    case Measure::kDecode:
      return "Mval/s";
    case Measure::kNoise:
      return "dB";
    case Measure::kSpeed:
      return "tok/s";
    case Measure::kBasis:
      return "Mtok/s";
    case Measure::kNone:
      break;
  }
  return "";
}

bool NeedsModel(Measure measure) {
  return measure == Measure::kDivergence || measure == Measure::kRetrieval ||
         measure == Measure::kSpeed;
}

}  // namespace tq::lab
