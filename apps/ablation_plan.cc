// SPDX-License-Identifier: Apache-2.0
#include "apps/ablation_plan.h"

#include <fmt/format.h>

#include <algorithm>

#include "turboquant/codec/codec.h"

namespace tq::app {
namespace {

// A cure and how a type says that it is missing.
struct Cure {
  const char* name;
  void (*leave_away)(CompareType& type, int bits);
};

std::string ScalarOf(int bits) { return fmt::format("turbo{}", bits); }
std::string TrellisOf(int bits) { return fmt::format("turbo{}_tcq", bits); }

bool IsCodec(const std::string& name) {
  return std::any_of(kCodecs.begin(), kCodecs.end(),
                     [&](const CodecInfo& info) { return info.name == name; });
}

// In the order in which they are added.
std::vector<Cure> Cures(int bits, bool calibrated) {
  std::vector<Cure> cures = {
      {"centring", [](CompareType& t, int) { t.no_centring = true; }},
      {"sinks", [](CompareType& t, int) { t.sinks = 0; }},
      // The page log always has the page being filled at 8 bits: none at all is simulated.
      {"window", [](CompareType& t, int) {
         t.window = 0;
         t.tokens = true;
       }}};
  if (calibrated)
    cures.push_back({"transform", [](CompareType& t, int) { t.no_calibration = true; }});
  if (IsCodec(TrellisOf(bits)))
    cures.push_back({"trellis", [](CompareType& t, int b) { t.k = t.v = ScalarOf(b); }});
  return cures;
}

CompareType FullType(int bits) {
  const std::string name = IsCodec(TrellisOf(bits)) ? TrellisOf(bits) : ScalarOf(bits);
  return {.k = name, .v = name};
}

}  // namespace

std::vector<AblationStep> AblationPlan(int bits, bool calibrated) {
  const std::vector<Cure> cures = Cures(bits, calibrated);
  std::vector<AblationStep> plan;
  for (size_t present = 0; present < cures.size(); ++present) {
    CompareType type = FullType(bits);
    for (size_t i = present; i < cures.size(); ++i) cures[i].leave_away(type, bits);
    plan.push_back({AblationKind::kAdded,
                    present == 0 ? "none" : fmt::format("+ {}", cures[present - 1].name), type});
  }
  plan.push_back(
      {AblationKind::kFull, fmt::format("+ {} = full", cures.back().name), FullType(bits)});
  CompareType simulated = FullType(bits);
  simulated.simulated = true;
  plan.push_back({AblationKind::kFull, "full", simulated});
  for (const Cure& cure : cures) {
    CompareType type = FullType(bits);
    cure.leave_away(type, bits);
    plan.push_back({AblationKind::kRemoved, fmt::format("full - {}", cure.name), type});
  }
  return plan;
}

}  // namespace tq::app
