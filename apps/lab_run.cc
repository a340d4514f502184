// SPDX-License-Identifier: Apache-2.0
// turboquant lab run: measures experiments of the listing on this machine and model, sets the
// figures beside the published ones and judges by rule.
#include <fmt/chrono.h>
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <memory>
#include <span>

#include "apps/experiment_measure.h"
#include "apps/interrupt.h"
#include "apps/lab_commands.h"
#include "apps/lab_text.h"
#include "apps/text_input.h"
#include "turboquant/base/hash.h"
#include "turboquant/base/version.h"

namespace tq::app {
namespace {

using lab::Experiment;
using lab::Measure;
using ExperimentList = std::vector<const Experiment*>;

constexpr const char* kDefaultModel = "smollm2";

ExperimentList Requested(const std::vector<std::string>& ids) {
  ExperimentList list;
  const auto add = [&](const Experiment& experiment) {
    if (std::ranges::find(list, &experiment) == list.end()) list.push_back(&experiment);
  };
  for (const std::string& id : ids) {
    if (id != "all") {
      add(lab::GetExperiment(id));
    } else {
      for (const Experiment& experiment : lab::Experiments()) add(experiment);
    }
  }
  return list;
}

std::string CommandText(const LabRunFlags& flags, const Experiment& experiment) {
  std::string text = fmt::format("turboquant lab run {}", experiment.id);
  if (lab::NeedsModel(experiment.measure)) {
    text += fmt::format(" -m {}", flags.model.model);
    if (flags.model.device != "cpu") text += fmt::format(" --device {}", flags.model.device);
    if (flags.model.threads > 0) text += fmt::format(" -t {}", flags.model.threads);
    if (!flags.file.empty()) text += fmt::format(" -f {}", flags.file);
    if (flags.calibration.none) text += " --no-calibration";
    if (!flags.calibration.file.empty())
      text += fmt::format(" --calibration {}", flags.calibration.file);
  }
  return text + (flags.quick ? " --quick --again" : " --again");
}

// Beside the file of figures: what is scored of one of them until it is whole.
class KeptScores {
 public:
  KeptScores(const std::filesystem::path& file, const std::string& key) : path_(file) {
    path_ += fmt::format(".{}.scores", TextHash(key));
    std::error_code ignored;
    if (file.has_parent_path()) std::filesystem::create_directories(file.parent_path(), ignored);
  }
  std::string path() const { return path_.string(); }
  void Remove() const {
    std::error_code ignored;
    std::filesystem::remove(path_, ignored);
  }

 private:
  std::filesystem::path path_;
};

class LabRun {
 public:
  explicit LabRun(const LabRunFlags& flags)
      : flags_(flags),
        list_(Requested(flags.ids)),
        file_(flags.output.empty() ? DefaultLabFile() : std::filesystem::path(flags.output)),
        known_(ReadLabFile(file_)) {}

  void Run() {
    text_ = ReadTextOrBuiltin(flags_.file);
    if (std::ranges::any_of(list_, [](const Experiment* e) { return lab::NeedsModel(e->measure); }))
      engine_ = LoadEngine(flags_.model);
    for (const Experiment* experiment : Pending(Measure::kNone)) {
      fmt::print("{}", ExperimentText(*experiment));
      ++counts_["not runnable"];
    }
    for (const Experiment* experiment : Pending(Measure::kNoise))
      Finish(*experiment, MeasureNoise(*experiment));
    for (const Experiment* experiment : Pending(Measure::kBasis))
      Finish(*experiment, MeasureBasis(*experiment, flags_.quick));
    for (const Experiment* experiment : Pending(Measure::kDecode))
      Finish(*experiment, MeasureDecode(*experiment, flags_.quick));
    MeasureDivergences(Pending(Measure::kDivergence));
    for (const Experiment* experiment : Pending(Measure::kRetrieval)) {
      const KeptScores kept(file_, ScoresKey(*experiment, experiment->size));
      Finish(*experiment, MeasureRetrieval(engine_, text_, flags_, kept.path(), *experiment));
      kept.Remove();
    }
    const ExperimentList timed = Pending(Measure::kSpeed);
    if (!timed.empty()) {
      SpeedMeter meter(engine_, flags_);
      for (const Experiment* experiment : timed) Finish(*experiment, meter.Measure(*experiment));
    }
    PrintCounts();
  }

 private:
  LabConditions ConditionsOf(const Experiment& experiment) const {
    LabConditions conditions{.build = kBuildCommit, .device = "cpu", .quick = flags_.quick};
    if (!lab::NeedsModel(experiment.measure)) return conditions;
    conditions.device = engine_->backend().name();
    conditions.model = engine_->spec().name;
    conditions.model_id = HexString(engine_->model_id());
    if (experiment.measure != Measure::kSpeed) conditions.text_id = TextHash(text_);
    return conditions;
  }

  // Those of the kind that are to be measured; prints what is known of the others.
  ExperimentList Pending(Measure measure) {
    ExperimentList pending;
    for (const Experiment* experiment : list_) {
      if (experiment->measure != measure) continue;
      const LabRecord* known =
          flags_.again ? nullptr
                       : FindRecord(known_, std::string(experiment->id), ConditionsOf(*experiment));
      known != nullptr ? Print(*experiment, *known) : pending.push_back(experiment);
    }
    return pending;
  }

  void MeasureDivergences(ExperimentList pending) {
    if (pending.empty()) return;
    const ModelAndText loaded = Tokenised(engine_, text_);
    const auto window = [&](const Experiment* e) {
      return WindowTokens(e->size, flags_.quick, static_cast<int64_t>(loaded.tokens.size()),
                          engine_->spec().context);
    };
    std::ranges::stable_sort(pending, {}, window);
    for (auto begin = pending.begin(); begin != pending.end();) {
      const int context = window(*begin);
      const auto end =
          std::find_if(begin, pending.end(), [&](auto* e) { return window(e) != context; });
      MeasureGroup(loaded, {begin, end}, context);
      begin = end;
    }
  }

  void MeasureGroup(const ModelAndText& loaded, const ExperimentList& group, int context) {
    if (const int asked = flags_.quick ? kQuickContext : group.back()->size; context < asked) {
      fmt::print(stderr, "windows of {} tokens instead of {}: the {} has no more (-f FILE)\n",
                 context, asked, context < engine_->spec().context ? "text" : "model");
    }
    const KeptScores kept(file_, ScoresKey(*group.front(), context));
    DivergenceMeter meter(loaded, flags_, context, kept.path(), group);
    meter.Score();
    for (const Experiment* experiment : group) Finish(*experiment, meter.Of(*experiment));
    kept.Remove();
  }

  std::string ScoresKey(const Experiment& first, int context) const {
    const LabConditions conditions = ConditionsOf(first);
    return fmt::format("{} {} {} {} {} {}", conditions.build, conditions.device,
                       conditions.model_id, conditions.text_id, context,
                       CommandText(flags_, first));
  }

  void Finish(const Experiment& experiment, const Figures& figures) {
    LabRecord record;
    record.conditions = ConditionsOf(experiment);
    record.date = fmt::format("{:%FT%TZ}", fmt::gmtime(std::time(nullptr)));
    record.command = CommandText(flags_, experiment);
    record.extent = figures.extent;
    record.note = figures.note;
    JudgeExperiment(experiment, figures.rows,
                    figures.gain ? figures.gain : UnpairedGain(experiment.measure, figures.rows),
                    record);
    AppendToLabFile(file_, record);
    Print(experiment, record);
  }

  void Print(const Experiment& experiment, const LabRecord& record) {
    fmt::print("{}{}", ExperimentText(experiment), RecordText(experiment, record));
    std::fflush(stdout);
    ++counts_[record.Verdict()];
  }

  void PrintCounts() const {
    std::string text;
    for (const auto& [verdict, count] : counts_)
      text += fmt::format("{}{} {}", text.empty() ? "" : ", ", count, verdict);
    fmt::print(stderr, "{} experiments: {}; figures in {}, `turboquant lab report` shows them\n",
               list_.size(), text, file_.string());
  }

  const LabRunFlags& flags_;
  ExperimentList list_;
  std::filesystem::path file_;
  std::vector<LabRecord> known_;
  std::string text_;
  std::shared_ptr<const Engine> engine_;
  std::map<std::string, int> counts_;  // by verdict
};

}  // namespace

void AddLabRunCommand(Command lab) {
  auto flags = std::make_shared<LabRunFlags>();
  flags->model.model = kDefaultModel;
  const Command command =
      lab.AddCommand("run", "Measure experiments of the listing here and judge them by rule");
  command.AddOption("id", flags->ids, "Experiments as `lab list` shows them, or all").Required();
  AddModelFlags(command, flags->model);
  command.GetOption("--model").Required(false).ShowDefault();
  AddCalibrationFlags(command, flags->calibration);
  command.AddOption("-f,--file", flags->file, "Text to measure on (default: the one built in)");
  command.AddFlag("--quick", flags->quick,
                  "Short: one window of 512 tokens, depths an eighth, prompts a quarter");
  command.AddFlag("--again", flags->again, "Measure also what the file has already");
  command.AddOption("-o,--output", flags->output,
                    "File of figures, added to (default: in the cache folder)");
  command.OnRun([flags] { LabRun(*flags).Run(); });
}

}  // namespace tq::app
