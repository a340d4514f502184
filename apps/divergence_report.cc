// SPDX-License-Identifier: Apache-2.0
#include "apps/divergence_report.h"

#include <fmt/format.h>

#include <array>

namespace tq::app {
namespace {

using lab::Estimate;

struct Level {
  const char* label;
  double fraction;
};
constexpr std::array kDivergenceLevels = {
    Level{"Maximum", 1},   Level{"99.9%  ", .999}, Level{"99.0%  ", .99}, Level{"95.0%  ", .95},
    Level{"90.0%  ", .9},  Level{"Median ", .5},   Level{"10.0%  ", .1},  Level{" 5.0%  ", .05},
    Level{" 1.0%  ", .01}, Level{" 0.1%  ", .001}, Level{"Minimum", 0}};
constexpr std::array kChangeLevels = {
    Level{"Maximum", 1},  Level{"99.9%  ", .999}, Level{"99.0%  ", .99}, Level{"95.0%  ", .95},
    Level{"90.0%  ", .9}, Level{"75.0%  ", .75},  Level{"Median ", .5},  Level{"25.0%  ", .25},
    Level{"10.0%  ", .1}, Level{" 5.0%  ", .05},  Level{" 1.0%  ", .01}, Level{" 0.1%  ", .001},
    Level{"Minimum", 0}};

}  // namespace

std::string DivergenceHeader() {
  return "\nchunk             PPL               ln(PPL(Q)/PPL(base))          KL Divergence        "
         "      Δp RMS            Same top p\n";
}

std::string DivergenceLine(int windows_done, const lab::DivergenceScores& s) {
  const Estimate ppl = s.perplexity(), log_ratio = s.log_ratio(), kld = lab::Mean(s.kld),
                 rms = s.rms_p_change(), top = s.same_top_rate();
  return fmt::format(
      "{:4}    {:9.4f} ± {:9.4f}    {:10.5f} ± {:10.5f}    {:10.5f} ± {:10.5f}    {:6.3f} ± "
      "{:6.3f} %    {:6.3f} ± {:6.3f} %\n",
      windows_done, ppl.value, ppl.error, log_ratio.value, log_ratio.error, kld.value, kld.error,
      100 * rms.value, 100 * rms.error, 100 * top.value, 100 * top.error);
}

std::string DivergenceSummary(const lab::DivergenceScores& s) {
  if (s.size() < 100) return "";
  std::string text = "====== Perplexity statistics ======\n";
  const auto line = [&](const char* label, const Estimate& e) {
    text += fmt::format("{:<30}: {:10.6f} ± {:10.6f}\n", label, e.value, e.error);
  };
  line("Mean PPL(Q)", s.perplexity());
  line("Mean PPL(base)", s.perplexity_base());
  text += fmt::format("Cor(ln(PPL(Q)), ln(PPL(base))): {:6.2f}%\n", 100 * s.correlation());
  line("Mean ln(PPL(Q)/PPL(base))", s.log_ratio());
  line("Mean PPL(Q)/PPL(base)", s.ratio());
  line("Mean PPL(Q)-PPL(base)", s.difference());

  text += "\n====== KL divergence statistics ======\n";
  const Estimate kld = lab::Mean(s.kld);
  text += fmt::format("Mean    KLD: {:10.6f} ± {:10.6f}\n", kld.value, kld.error);
  const std::vector<float> sorted = lab::Sorted(s.kld);
  for (const Level& level : kDivergenceLevels) {
    text += fmt::format("{} KLD: {:10.6f}\n", level.label, lab::Percentile(sorted, level.fraction));
  }

  text += "\n====== Token probability statistics ======\n";
  const Estimate change = lab::Mean(s.p_change), rms = s.rms_p_change(), top = s.same_top_rate();
  text += fmt::format("Mean    Δp: {:6.3f} ± {:5.3f} %\n", 100 * change.value, 100 * change.error);
  const std::vector<float> changes = lab::Sorted(s.p_change);
  for (const Level& level : kChangeLevels) {
    text += fmt::format("{} Δp: {:6.3f}%\n", level.label,
                        100 * lab::Percentile(changes, level.fraction));
  }
  text += fmt::format("RMS Δp    : {:6.3f} ± {:5.3f} %\n", 100 * rms.value, 100 * rms.error);
  text += fmt::format("RMS Δp: {:6.3f} ± {:5.3f} %\n", 100 * rms.value,
                      100 * rms.error);  // for parsers that want no blanks there
  text += fmt::format("Same top p: {:6.3f} ± {:5.3f} %\n", 100 * top.value, 100 * top.error);
  return text;
}

}  // namespace tq::app
